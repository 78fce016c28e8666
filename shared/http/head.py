"""Checks of a request's head: the framing of its body, and rejection of ambiguous heads.

No I/O. The parser (llhttp, strict) has already split the head and has rejected bare line feeds,
folded lines, control characters and blanks before a colon. This module checks the remaining parts
of RFC 9110 and 9112 that two parsers could interpret differently. A proxy and this server must see
the same requests.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from shared.http.limits import MAX_HEADERS
from shared.http.refusals import (
    HeadTooLargeError,
    MalformedRequestError,
    UnsupportedVersionError,
)

Headers = Iterable[tuple[bytes, bytes]]

SINGLE = frozenset(
    {
        *(b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"),
        *(b"content-disposition", b"authorization", b"idempotency-key", b"expect", b"origin"),
        *(b"range", b"if-range", b"if-modified-since", b"if-unmodified-since", b"last-event-id"),
        *(b"tus-resumable", b"upload-length", b"upload-offset", b"upload-metadata"),
        *(b"upload-checksum", b"upload-concat", b"x-http-method-override"),
        *(b"sec-websocket-key", b"sec-websocket-version"),
    }
)
"""Headers that a request may have only once: parsers disagree on which of two to use."""

MAX_DIGITS = 18
"""Maximum digits of a `Content-Length`: an exabyte."""

_HOST = re.compile(
    rb"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(:[0-9]{0,5})?"
)

_TAB = re.compile(rb"\n(?:content-length|transfer-encoding|host):[^\n]*\t", re.IGNORECASE)
"""The standard allows a tab around a value. nginx treats it as a part of the value, while the
parser removes it."""


_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]{0,300})(?=\r\n)", re.IGNORECASE)


class Framing(NamedTuple):
    """How the end of the body is determined."""

    length: int = 0
    """Bytes of the body, from its `Content-Length`."""
    is_chunked: bool = False

    @property
    def has_body(self) -> bool:
        return self.is_chunked or self.length > 0


BODILESS = Framing()


def read_framing(headers: Headers, *, version: str) -> Framing:
    """Check the headers of a request and return how its body is framed.

    Args:
        headers: pairs of name, in lower case, and value.
        version: HTTP version of the request line, such as `1.1`.

    Raises:
        RefusedError: the head is ambiguous, or has more headers than `MAX_HEADERS`.
    """
    found: dict[bytes, bytes] = {}
    count = 0
    for name, value in headers:
        count += 1
        if name in SINGLE:
            if name in found:
                raise MalformedRequestError(
                    f"The request has the header {_shown(name)} twice; send it once."
                )
            found[name] = value
    if count > MAX_HEADERS:
        raise HeadTooLargeError(f"The request has {count} headers; the limit is {MAX_HEADERS}.")
    _check_host(found.get(b"host"), version)
    length, coding = found.get(b"content-length"), found.get(b"transfer-encoding")
    if coding is not None:
        _check_coding(coding, version, has_length=length is not None)
        return Framing(is_chunked=True)
    return BODILESS if length is None else Framing(_length(length))


def _check_host(host: bytes | None, version: str) -> None:
    if host is None:
        if version != "1.0":
            raise MalformedRequestError("The request has no Host header; HTTP/1.1 requires one.")
    elif not _is_host(host):
        raise MalformedRequestError(
            f"The Host {_shown(host)} is not a host name or address with an optional port."
        )


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return len(value) <= 300 and _HOST.fullmatch(value.strip(b" \t")) is not None


def _check_coding(coding: bytes, version: str, *, has_length: bool) -> None:
    if has_length:
        raise MalformedRequestError(
            "The request has both Content-Length and Transfer-Encoding; send one of them."
        )
    if version == "1.0":
        raise MalformedRequestError("HTTP/1.0 has no Transfer-Encoding; send a Content-Length.")
    if coding.strip(b" \t").lower() != b"chunked":
        raise MalformedRequestError(
            f"Transfer-Encoding {_shown(coding)} is not supported; send `chunked` or a "
            "Content-Length."
        )


def _length(value: bytes) -> int:
    digits = value.strip(b" ")
    if not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise MalformedRequestError(f"Content-Length {_shown(value)} is not a number of bytes.")
    return int(digits)


def check_target(head: bytes, method: bytes, url: bytes, headers: Headers) -> None:
    """Check the request line.

    Args:
        head: the whole head, as received.

    Raises:
        MalformedRequestError: the target is invalid or ambiguous.
    """
    if not head.startswith(b"%b %b HTTP/" % (method, url)):
        if head.startswith(b"%b %b\r\n" % (method, url)):
            raise UnsupportedVersionError("The request line has no HTTP version; send HTTP/1.1.")
        raise MalformedRequestError(
            "The request line is malformed; separate method, target and version by single spaces."
        )
    if b"\t" in head and _TAB.search(head):
        raise MalformedRequestError("A header that frames the request contains a tab.")
    if b"#" in url:
        raise MalformedRequestError("The target contains a fragment (`#`); omit it.")
    if url.startswith(b"/") or (url == b"*" and method == b"OPTIONS"):
        return
    host = next((value for name, value in headers if name == b"host"), b"")
    parts = urlsplit(url.decode("ascii", errors="replace"))
    is_absolute = parts.scheme in ("http", "https") and method != b"CONNECT"
    if not is_absolute or parts.netloc.lower() != host.decode("latin-1").strip().lower():
        raise MalformedRequestError(
            f"The target {_shown(url)} must start with `/` or be a URL of the host in `Host`."
        )


def origin_form(url: bytes) -> bytes:
    """Convert a target in absolute form to origin form (RFC 9112, 3.2)."""
    if url.startswith(b"/") or b"://" not in url:
        return url
    rest = re.split(rb"(?=[/?])", url.partition(b"://")[2], maxsplit=1)[1:]
    path = rest[0] if rest else b"/"
    return path if path.startswith(b"/") else b"/" + path


def path_of(url: bytes) -> bytes:
    """Return the decoded path of a target in origin form, as the application receives it."""
    path = url.partition(b"?")[0]
    return unquote_to_bytes(path) if b"%" in path else path


def origin_in(head: bytes) -> str | None:
    """Return the `Origin` of a complete or partial head; None if it has none or several."""
    found = _ORIGIN.findall(head)
    return found[0].decode("latin-1").strip(" \t") if len(found) == 1 else None


def wants_websocket(method: bytes, version: str, headers: Headers) -> bool:
    """Return True if a request asks for an upgrade to a WebSocket (RFC 6455, 4.1).

    Other upgrades are ignored, as RFC 9110, 7.8 allows: the response uses HTTP/1.1.
    """
    upgrades = [value.lower().strip() for name, value in headers if name == b"upgrade"]
    return method == b"GET" and version == "1.1" and upgrades == [b"websocket"]


def _shown(value: bytes) -> str:
    return repr(value[:80].decode("latin-1"))

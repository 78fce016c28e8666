"""Detect the character encoding of a text from its content and the client's declaration.

The first match wins: a byte order mark; the declared `charset`, if the first bytes decode with it;
UTF-8, if the whole content is valid UTF-8. Otherwise the encoding is reported as unknown, never
guessed.
"""

import codecs
import encodings
import pkgutil
import re
from encodings.aliases import aliases

from shared.blobs.files import Piece

_MARKS = (
    # The UTF-16 mark is a prefix of the UTF-32 mark, so the longer ones come first.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CHARSET = re.compile(r"(?=.{1,40}\Z)[a-z0-9]+(?:[_.:+-][a-z0-9]+)*")
"""Syntax of IANA encoding names, which are safe in a header."""

_KNOWN = frozenset(aliases) | {module.name for module in pkgutil.iter_modules(encodings.__path__)}
"""Encoding names that Python knows. Python caches every other name it is asked for, without bound,
and clients can send any number of them."""

_PYTHON_ONLY = frozenset({"idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined"})
"""Python-specific encodings that are not used for documents."""


def declared_charset(parameters: dict[str, str]) -> str | None:
    """Return the `charset` parameter of a Content-Type; None if it is not a text encoding."""
    name = parameters.get("charset", "").lower()
    known = encodings.normalize_encoding(name) if _CHARSET.fullmatch(name) else ""
    if known not in _KNOWN or known in _PYTHON_ONLY:
        return None
    return name if _decodes(b"", name) else None


def has_charset(content_type: str) -> bool:
    """Return True if the media type has a `charset` parameter. JSON, for example, has none."""
    return content_type.startswith("text/") or content_type.endswith(("/xml", "+xml"))


class CharsetProbe:
    """Determines the encoding of a text while it is streamed."""

    def __init__(self, head: bytes, *, content_type: str, declared: str | None) -> None:
        """Initialize the probe.

        Args:
            head: The first bytes of the content, which are also passed to `update`.
            content_type: Media type of the content.
            declared: The result of `declared_charset`.
        """
        self._head = head
        self._charset = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if self._charset is None and declared is not None and not _is_utf8(declared):
            self._charset = declared if _decodes(head, declared) else None
        if not has_charset(content_type):
            self._charset = None
        self._may_be_utf8 = has_charset(content_type) and self._charset is None
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def update(self, piece: Piece) -> None:
        """Process the next piece."""
        self._check(piece, final=False)

    def _check(self, piece: Piece, *, final: bool) -> None:
        if self._may_be_utf8:
            try:
                self._decoder.decode(piece, final)
            except UnicodeDecodeError:
                self._may_be_utf8 = False

    def charset(self) -> str | None:
        """Return the encoding once the whole text has been processed; None if it is unknown."""
        self._check(b"", final=True)
        return "utf-8" if self._may_be_utf8 else self._charset

    def charset_by_head(self, *, is_whole: bool) -> str | None:
        """Return the encoding that the first bytes prove, for content that is not read in full.

        ASCII alone proves nothing about the bytes that follow.

        Args:
            is_whole: True if the head is the whole content.
        """
        if is_whole:
            self.update(self._head)
            return self.charset()
        is_proven = not self._head.isascii() and _decodes(self._head, "utf-8")
        return "utf-8" if self._may_be_utf8 and is_proven else self._charset


def _codec(encoding: str) -> codecs.CodecInfo:
    """Return the codec of a known encoding, by its normalized name, which Python caches."""
    return codecs.lookup(encodings.normalize_encoding(encoding))


def _is_utf8(encoding: str) -> bool:
    """Return True for UTF-8 and ASCII, which the content itself can confirm."""
    return _codec(encoding).name in ("utf-8", "ascii")


def _decodes(data: bytes, encoding: str) -> bool:
    """Return True if the data decodes with a text encoding. It may end within a character."""
    try:
        codec = _codec(encoding)
        if not codec._is_text_encoding or codec.incrementaldecoder is None:  # noqa: SLF001 - as `bytes.decode` asks
            return False
        codec.incrementaldecoder().decode(data)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True

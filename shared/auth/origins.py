"""The origin of the page that sent a request, as reported by the browser.

A page of another site could otherwise send requests with the session of its visitor (CSRF).
"""

from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from shared.addresses import in_url, is_loopback
from shared.auth.accesserrors import ForeignOriginError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. Pages of other origins cannot read the responses."""


DEFAULT_PORTS = {"http": 80, "https": 443}
"""Ports that browsers omit from an origin."""


@lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """Return the origin of a URL as browsers write it (RFC 6454, 6.2); empty if it has none."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
        if not host or not parts.scheme or parts.username is not None:
            return ""
        if ":" in host:
            host = IPv6Address(host).compressed
    except ValueError:
        return ""
    default = port is None or port == DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{in_url(host)}{'' if default else f':{port}'}"


def is_own(origin: str, host: str) -> bool:
    """Return True if an origin is that of the requested host.

    Both schemes match: behind a proxy that terminates TLS, the scheme of the page is unknown.
    """
    sent = origin_of(origin)
    return bool(sent) and sent in (origin_of(f"http://{host}"), origin_of(f"https://{host}"))


@lru_cache(maxsize=256)
def is_this_machine(host: str) -> bool:
    """Return True if a `Host` names this machine. Clients other than browsers may omit it."""
    try:
        return not host or is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def check_page(connection: HTTPConnection, trusted: frozenset[str]) -> None:
    """Check that a request with a session cookie comes from an allowed page.

    Args:
        trusted: allowed origins in addition to the host's own.

    Raises:
        ForeignOriginError: the page has another origin, or its origin is unknown.
    """
    headers = connection.headers
    origin = headers.get("origin")
    if origin is not None:
        is_ours = origin_of(origin) in trusted or is_own(origin, headers.get("host", ""))
    elif connection.scope.get("method") in SAFE:
        # Any page can load an image or a script without sending an origin.
        is_ours = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    else:
        is_ours = False
    if not is_ours:
        raise ForeignOriginError(f"Pages from {origin} may not use this session.")

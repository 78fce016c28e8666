"""Which page a request comes from, as the browser tells it.

A page of another site may send requests in the name of whoever looks at it.
"""

from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from shared.addresses import in_url, is_loopback
from shared.auth.accesserrors import ForeignOriginError

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing; what they are answered, no page of another origin can read."""


DEFAULT_PORTS = {"http": 80, "https": 443}
"""Ports that browsers leave out of an origin."""


@lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """The origin of an address, as browsers write it (RFC 6454, 6.2); empty if it has none."""
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
    """Whether it is the origin of the host that is asked.

    Behind a proxy that ends TLS we cannot know which of the two schemes the page has.
    """
    asked = origin_of(origin)
    return bool(asked) and asked in (origin_of(f"http://{host}"), origin_of(f"https://{host}"))


@lru_cache(maxsize=256)
def is_this_machine(host: str) -> bool:
    """Whether a `Host` names this machine; what is no browser may leave it out."""
    try:
        return not host or is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def check_page(connection: HTTPConnection, trusted: frozenset[str]) -> None:
    """Check that a request that has a cookie comes from a page of ours.

    Args:
        trusted: origins of such pages, beside the host's own.

    Raises:
        ForeignOriginError: it does not, or cannot be told to.
    """
    headers = connection.headers
    origin = headers.get("origin")
    if origin is not None:
        is_ours = origin_of(origin) in trusted or is_own(origin, headers.get("host", ""))
    elif connection.scope.get("method") in SAFE:
        # An image or a script may be asked for without an origin, by any page.
        is_ours = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    else:
        is_ours = False
    if not is_ours:
        raise ForeignOriginError(f"A session is for our own page, not for one from {origin}.")

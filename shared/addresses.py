"""Parse and format hosts and ports, with IPv6 addresses in brackets (RFC 3986, 3.2.2)."""

from ipaddress import IPv6Address, ip_address

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here
"""The loopback address for each wildcard address that a service can listen on."""


def bare_host(host: str) -> str:
    """Return a host without the brackets of an IPv6 address."""
    host = host.strip()
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def in_url(host: str) -> str:
    """Return a bare host as it is written in a URL or before a port."""
    return f"[{host}]" if ":" in host else host


def local_url(host: str, port: int | str) -> str:
    """Return the URL under which the local machine reaches a service that listens on a host."""
    host = bare_host(host)
    return f"http://{in_url(_WILDCARDS.get(host, host))}:{port}"


def split_address(text: str, *, default_port: int) -> tuple[str, int]:
    """Return the host and the port of `host`, `host:port`, `[::1]`, `[::1]:port` or `::1`.

    Raises:
        ValueError: the text has none of these forms.
    """
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address; write IPv6 as [::1]:{default_port}.")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or not (port == "" or (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise ValueError(f"{text!r} is not an address; write host:{default_port}.")
    if ":" in host or text.startswith("["):
        IPv6Address(host)  # Raises ValueError.
    return host, int(port or default_port)


def is_loopback(host: str) -> bool:
    """Return True if a host is a loopback address or `localhost`.

    Any other name may resolve to another machine.
    """
    try:
        address = ip_address(bare_host(host))
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

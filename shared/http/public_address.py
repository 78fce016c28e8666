"""Classification of addresses as public or not.

Addresses in the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates) are
not public. Neither are addresses that embed another address (NAT64, 6to4, Teredo, ISATAP, mapped),
whatever they embed, nor the metadata addresses of cloud providers.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_SPECIAL_V4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; 100.100.100.200 is a cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata and DNS
        "169.254.0.0/16",  # link-local; 169.254.169.254 is most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast
    )
]

_UNICAST_V6 = ip_network("2000::/3")
"""The allocated IPv6 unicast space. Mapped, compatible, NAT64 (`64:ff9b::/96`, `64:ff9b:1::/48`),
discard-only, segment routing, unique local, site-local and link-local addresses are outside it."""

_SPECIAL_V6 = [
    ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo and ORCHID among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",  # documentation
    )
]

_ISATAP = (0x00005EFE, 0x02005EFE)
"""Bits 64 to 96 of an ISATAP address, which embeds an IPv4 address (RFC 5214)."""

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_DOTTED_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")


def is_public(text: str) -> bool:
    """Return True if an address, as returned by a resolver, is on the public internet."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return _is_public_v6(address)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None or address not in _UNICAST_V6:
        return False
    is_isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    return not is_isatap and not any(address in network for network in _SPECIAL_V6)


def looks_inside(host: str) -> bool:
    """Return True if a host is not public, judging by its spelling alone.

    IPv4 addresses must be four decimal numbers: resolvers treat `0x7f.1`, `2130706433` and
    `0177.0.0.1` as loopback addresses.
    """
    bare = host.rstrip(".").lower()
    if ":" in bare:
        return not is_public(bare)
    last = bare.rpartition(".")[2]
    if _NUMBER.fullmatch(last):
        return not (_DOTTED_QUAD.fullmatch(bare) and is_public(bare))
    return not bare or bare == "localhost" or bare.endswith((".localhost", ".local", ".internal"))

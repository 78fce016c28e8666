"""Special-purpose addresses are not public, in any spelling."""

import pytest

from shared.errors import ForbiddenAddressError
from shared.http.outbound import Outbound
from shared.http.public_address import is_public, looks_inside

PUBLIC = [
    *("8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
    *("168.63.129.15", "198.17.255.255", "223.255.255.255", "1.0.0.1", "192.0.1.1"),
    *("2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "2001:200::1", "2003::1"),
]
INSIDE = [
    *("0.0.0.0", "0.1.2.3", "10.255.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1"),  # noqa: S104
    *("127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1"),
    *("192.0.0.170", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "168.63.129.16", "192.31.196.1", "192.52.193.1", "192.175.48.1"),
    *("::", "::1", "::7f00:1", "::10.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1"),
    *("100::1", "100:0:0:1::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1"),
    *("2620:4f:8000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd00::1", "fe80::1", "febf::1"),
    *("fe80::1%eth0", "2606:4700::1%1", "fec0::1", "ff02::1", "ff0e::1"),
    *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1", "fe80::5efe:a00:1", "4000::1"),
    *("nonsense", ""),
]
SPELLINGS = [
    *("127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.01"),
    *("127.0.0.1.", "127.0.0.1..", "0", "0x", "1", "256.256.256.256", "8.8.8", "134744072"),
    *("0x8.8.8.8", "localhost", "LOCALHOST.", "a.localhost", "printer.local", "db.internal"),
    *("metadata.google.internal.", ".", "example.1", "example.0x1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_what_nobody_sets_aside_is_public(address: str) -> None:
    assert is_public(address)
    assert not looks_inside(address)


@pytest.mark.parametrize("address", INSIDE)
def test_what_a_registry_sets_aside_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_spelling_that_leads_inside_is_refused_before_it_is_resolved(host: str) -> None:
    outbound = Outbound(private=False, seconds=1)
    assert looks_inside(host)
    with pytest.raises(ForbiddenAddressError):
        outbound.check(f"https://{host}/")
    await outbound.close()


@pytest.mark.parametrize(
    "url",
    [
        *("https://a@127.0.0.1/", "https://:b@example.com/", "https://example.com\\@127.0.0.1/"),
        *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/"),
        *("https://ⓛocalhost/", "https://127。0。0。1/", "https://exa mple.com/", "https:///x"),
        *("http://example.com/", "ftp://example.com/", "//example.com/", "https://example.com:x/"),
        *("https://[fe80::1%25eth0]/", "https://example.com:0/", "gopher://example.com/"),
    ],
)
async def test_an_address_that_is_no_plain_https_address_is_refused(url: str) -> None:
    outbound = Outbound(private=False, seconds=1)
    with pytest.raises(ForbiddenAddressError):
        outbound.check(url)
    await outbound.close()


def test_names_and_dotted_quads_are_left_to_the_resolver() -> None:
    assert not any(map(looks_inside, ["example.com", "example.com.", "1.example", "8.8.8.8"]))

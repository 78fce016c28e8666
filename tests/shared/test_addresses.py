"""Addresses with IPv4, IPv6 and names, with and without ports, are parsed and formatted."""

import socket
from contextlib import closing

import pytest

from shared.addresses import bare_host, in_url, is_loopback, local_url, split_address
from shared.auth.origins import is_own, is_this_machine, origin_of
from shared.http.serving import listen
from shared.settings import AccessSettings, Settings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("kafka", ("kafka", 9092)),
        ("kafka:1", ("kafka", 1)),
        (" 127.0.0.1:1 ", ("127.0.0.1", 1)),
        ("[::1]:1", ("::1", 1)),
        ("[::1]", ("::1", 9092)),
        ("::1", ("::1", 9092)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert split_address(text, default_port=9092) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "kafka:x", "kafka:99999", "[::1", "[::1]1", "[x]:1", "1:2:3", "[::1]:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message does not matter
        split_address(text, default_port=9092)


def test_ipv6_stands_in_brackets_in_a_url() -> None:
    assert local_url("::1", 8000) == "http://[::1]:8000"
    assert local_url("[::1]", 8000) == "http://[::1]:8000"
    assert local_url("::", 8000) == "http://[::1]:8000"
    assert local_url("0.0.0.0", 8000) == "http://127.0.0.1:8000"  # noqa: S104 - not bound
    assert local_url("localhost", 8000) == "http://localhost:8000"
    assert (in_url("::1"), in_url("a.example")) == ("[::1]", "a.example")
    assert (bare_host("[::1]"), bare_host("::1")) == ("::1", "::1")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("::1", True),
        ("[::1]", True),
        ("127.0.0.2", True),
        ("::ffff:127.0.0.1", True),
        ("LOCALHOST", True),
        ("::", False),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_the_loopback_is_known(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) == loopback


def test_settings_take_ipv6_addresses() -> None:
    assert AccessSettings(host="[::1]").host == "::1"
    assert Settings(kafka="[::1]:9092,kafka:9092").kafka == "[::1]:9092,kafka:9092"
    with pytest.raises(ValueError, match="is reachable from other machines"):
        AccessSettings(host="::")
    with pytest.raises(ValueError, match="not an address"):
        Settings(kafka="[::1:9092")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://[::1]:8000/x", "http://[::1]:8000"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("HTTPS://Page.Example:443", "https://page.example"),
        ("http://page.example:443", "http://page.example:443"),
        ("null", ""),
        ("http://[::1", ""),
        ("http://a@b", ""),
        ("http://a:b", ""),
        ("/static", ""),
    ],
)
def test_an_origin_has_one_form(url: str, origin: str) -> None:
    assert origin_of(url) == origin


def test_a_page_at_an_ipv6_address_is_our_own() -> None:
    assert is_own("http://[::1]:8000", "[::1]:8000")
    assert is_own("https://page.example", "Page.example:443")
    assert not is_own("http://[::1]:8000", "[::2]:8000")
    assert not is_own("http://[::1]:8000", "[::1]:8001")
    assert not is_own("null", "[::1]:8000")
    assert not is_own("", "")
    assert is_this_machine("[::1]:8000")
    assert not is_this_machine("[::2]:8000")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_service_listens_on_any_kind_of_address(host: str) -> None:
    with closing(listen(host, 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)):
            pass


def test_all_addresses_are_those_of_both_kinds() -> None:
    with closing(listen("::", 0)) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)):
                pass

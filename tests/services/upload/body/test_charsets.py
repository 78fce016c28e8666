"""The reported encoding of a text is correct or unknown."""

import codecs

import pytest

from services.upload.body.charsets import CharsetProbe
from services.upload.body.names import charset
from tests.services.upload.service import Service, UploadedEvents

ASCII = b"To be, or not to be.\n"
LATIN = "Prüfung".encode("latin-1")
UTF8 = "Prüfung".encode()


@pytest.mark.parametrize(
    ("header", "declared"),
    [
        ("text/plain; charset=ISO-8859-1", "iso-8859-1"),
        ('text/plain; charset="utf-8"', "utf-8"),
        ("text/plain", None),
        ("text/plain; charset=", None),
        ("text/plain; charset=klingon", None),
        ("text/plain; charset=zip", None),
        ('text/plain; charset="utf-8\r\nX: y"', None),
        ("text/plain; charset=base64", None),
        ("text/plain; charset=punycode", None),
        ("text/plain; charset=aliases", None),
        ("text/plain; charset=utf::8", None),
        ("text/plain; charset=utf:8", "utf:8"),
        ("text/plain; charset=windows-1252", "windows-1252"),
        ("text/plain; charset=koi8-u", "koi8-u"),
        ("text/plain; charset=Shift_JIS", "shift_jis"),
        ("text/plain; charset=US-ASCII", "us-ascii"),
        ("text/plain; charset=iso_8859-1:1987", "iso_8859-1:1987"),
        (None, None),
    ],
)
def test_only_an_encoding_of_text_is_declared(header: str | None, declared: str | None) -> None:
    assert charset(header) == declared


def test_no_name_that_a_client_invents_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def lookup(name: str) -> object:
        asked.append(name)
        raise LookupError(name)

    monkeypatch.setattr(codecs, "lookup", lookup)
    for name in ("klingon", "klingon-1", "utf-99", "latin.1000", "utf--8"):
        assert charset(f"text/plain; charset={name}") is None
    assert asked == []
    for name in ("koi8-u", "koi8+u", "koi8:u"):
        charset(f"text/plain; charset={name}")
    assert set(asked) == {"koi8_u"}


@pytest.mark.parametrize(
    ("pieces", "declared", "found"),
    [
        ([ASCII, ASCII], None, "utf-8"),
        ([UTF8], None, "utf-8"),
        ([ASCII, LATIN], None, None),
        ([ASCII, LATIN], "utf-8", None),
        ([ASCII, LATIN], "us-ascii", None),
        ([ASCII, LATIN], "iso-8859-1", "iso-8859-1"),
        ([UTF8[:3], UTF8[3:]], None, "utf-8"),
        ([UTF8[:3]], None, None),
        (["text".encode("utf-16")], None, "utf-16"),
        (["text".encode("utf-32")], "iso-8859-1", "utf-32"),
        ([b"\xef\xbb\xbf" + UTF8], None, "utf-8"),
        ([LATIN], "shift_jis", None),
    ],
)
def test_the_content_decides_where_it_can(
    pieces: list[bytes], declared: str | None, found: str | None
) -> None:
    probe = CharsetProbe(pieces[0], content_type="text/plain", declared=declared)
    for piece in pieces:
        probe.update(piece)
    assert probe.charset() == found


@pytest.mark.parametrize(
    ("head", "is_whole", "found"),
    [(ASCII, True, "utf-8"), (ASCII, False, None), (UTF8, False, "utf-8"), (LATIN, False, None)],
)
def test_a_beginning_proves_what_it_can(head: bytes, found: str | None, *, is_whole: bool) -> None:
    probe = CharsetProbe(head, content_type="text/plain", declared=None)
    assert probe.charset_by_head(is_whole=is_whole) == found


@pytest.mark.parametrize("content_type", ["application/pdf", "application/json"])
def test_what_has_no_charset_is_given_none(content_type: str) -> None:
    probe = CharsetProbe(ASCII, content_type=content_type, declared="utf-8")
    probe.update(ASCII)
    assert probe.charset() is None


async def test_the_event_of_a_text_has_its_encoding(
    service: Service, events: UploadedEvents
) -> None:
    declared = {"Content-Type": "text/plain; charset=ISO-8859-1"}
    await service.post(content=ASCII + LATIN, headers=declared)
    await service.send(("play.txt", UTF8), ("old.txt", LATIN), ("a.json", b"{}"))
    found = {event.data.name: event.data.charset for event in await events.all()}
    assert found == {"unnamed": "iso-8859-1", "play.txt": "utf-8", "old.txt": None, "a.json": None}

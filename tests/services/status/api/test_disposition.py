"""A name in `Content-Disposition` is a safe file name on any system."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.status.api.disposition import MAX_BYTES, attachment

HEADER = re.compile(r'attachment; filename="([^"\\]*)"; filename\*=UTF-8\'\'([\w!#$&+.^`|~%-]*)')


def names(name: str) -> tuple[str, str]:
    """Return the ASCII name and the full name that a client receives."""
    header = attachment(name)
    found = HEADER.fullmatch(header)
    assert found is not None, header
    return found[1], unquote(found[2])


@pytest.mark.parametrize(
    ("name", "ascii_name", "true_name"),
    [
        ("report.pdf", "report.pdf", "report.pdf"),
        ("Prüfung Größe.pdf", "Prufung Grosse.pdf", "Prüfung Größe.pdf"),
        ("Pru\u0308fung.pdf", "Prufung.pdf", "Pru\u0308fung.pdf"),
        ("日本語.txt", "file.txt", "日本語.txt"),
        ("日本 report.txt", "_ report.txt", "日本 report.txt"),
        ("../../etc/passwd", "passwd", "passwd"),
        ("C:\\temp\\a.txt", "a.txt", "a.txt"),
        ('a"; filename="b.exe', "a_; filename=_b.exe", "a_; filename=_b.exe"),
        ("a\r\nSet-Cookie: x.txt", "aSet-Cookie_ x.txt", "aSet-Cookie_ x.txt"),
        ("100%41.txt", "100_41.txt", "100%41.txt"),
        (".bashrc", "_bashrc", "_bashrc"),
        ("...", "file", "file"),
        ("..", "file", "file"),
        ("-rf", "_rf", "_rf"),
        ("con.txt", "_con.txt", "_con.txt"),
        ("NUL", "_NUL", "_NUL"),
        ("COM¹.log", "_COM1.log", "_COM¹.log"),
        ("conference.txt", "conference.txt", "conference.txt"),
        ("end. . ", "end", "end"),
        ("\u202etxt.exe", "txt.exe", "txt.exe"),
        ("a\uff0fb.txt", "b.txt", "a\uff0fb.txt"),
        ("\ud800x.txt", "x.txt", "x.txt"),
        ("/", "file", "file"),
        ("", "file", "file"),
    ],
)
def test_a_name_is_offered_in_ascii_and_as_it_is(
    name: str, ascii_name: str, true_name: str
) -> None:
    assert names(name) == (ascii_name, true_name)


def test_a_long_name_keeps_its_extension() -> None:
    for name in ("é" * 300 + ".tar", "x" * 300 + ".tar"):
        for offered in names(name):
            assert len(offered.encode()) <= MAX_BYTES
            assert offered.endswith(".tar")


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=300))
def test_any_name_is_safe(name: str) -> None:
    plain, true = names(name)
    for offered in (plain, true):
        assert offered
        assert not offered.startswith((".", "-", " "))
        assert not offered.endswith((".", " "))
        assert not set(offered) & set('"\\/:*?<>|\r\n\0')
        assert len(offered.encode()) <= MAX_BYTES
    assert plain.isascii()
    assert plain.isprintable()

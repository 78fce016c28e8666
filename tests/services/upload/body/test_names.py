"""A name is data: it is kept, except for invisible and misleading characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload.body.names import (
    MAX_NAME,
    clean_name,
    extension,
    file_name,
    media_type,
    parse_header,
)


def named(header: str) -> str | None:
    return file_name(parse_header(header)[1])


@pytest.mark.parametrize(
    "name",
    [
        "report.pdf",
        "../../etc/passwd",
        "C:\\Users\\ada\\report.pdf",
        "übung 1, größe.txt",
        "报告.docx",
        "👩\u200d🚀.png",
        'say "hi".txt',
        "<script>.html",
        "noextension",
        ".profile",
        "e\u0301.txt",
    ],
)
def test_a_name_is_kept_as_it_was_given(name: str) -> None:
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\x00b\r\nc\x1b[31m\x7f.txt", "abc[31m.txt"),
        ("invoice\u202egpj.exe", "invoicegpj.exe"),
        ("\u2066a\u2069\u200e.txt", "a.txt"),
        ("line\u2028break.txt", "linebreak.txt"),
        ("lone\ud800surrogate", "lonesurrogate"),
        ("  padded.txt  ", "padded.txt"),
        ("", "unnamed"),
        ("\u202e\x00", "unnamed"),
    ],
)
def test_what_hides_or_misleads_is_removed(given: str, kept: str) -> None:
    assert clean_name(given) == kept


def test_a_long_name_is_cut_before_its_extension() -> None:
    cut = clean_name("x" * 300 + ".pdf")

    assert len(cut) == MAX_NAME
    assert cut.endswith("x.pdf")
    assert clean_name("x" * 300) == "x" * MAX_NAME
    assert clean_name("a." + "x" * 300) == "a." + "x" * (MAX_NAME - 2)


@given(st.text(st.characters(), max_size=600))
def test_any_text_becomes_a_name_that_can_be_stored_and_stays(text: str) -> None:
    name = clean_name(text)

    assert 1 <= len(name) <= MAX_NAME
    name.encode()
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('form-data; name="file"; filename="a.txt"', "a.txt"),
        ("form-data; name=file; filename=a.txt", "a.txt"),
        ("attachment; filename*=UTF-8''na%C3%AFve%20file.txt", "naïve file.txt"),
        ("attachment; filename*=iso-8859-1'en'%A3%20rates", "£ rates"),
        ("attachment; filename=\"plain.txt\"; filename*=UTF-8''%E2%82%AC.txt", "€.txt"),
        ('attachment; filename="a.txt"; filename*=broken', "a.txt"),
        ('form-data; filename="say \\"hi\\".txt"', 'say "hi".txt'),
        ('form-data; filename="say %22hi%22.txt"', 'say "hi".txt'),
        ('form-data; filename="100%25.txt"', "100%25.txt"),
        ('form-data; filename="semi;colon=x.txt"; name="file"', "semi;colon=x.txt"),
        ('form-data; filename="C:\\\\dir\\\\a.txt"', "C:\\dir\\a.txt"),
        ('form-data; filename="back\\slash.txt"', "back\\slash.txt"),
        ('form-data; filename=""', ""),
        ('form-data; name="file"', None),
        ("", None),
    ],
)
def test_a_content_disposition_tells_the_name(header: str, name: str | None) -> None:
    assert named(header) == name


@given(st.text(max_size=300))
def test_no_header_is_too_strange_to_be_read(header: str) -> None:
    named(header)
    media_type(header)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.PDF", "pdf"),
        ("a.tar.gz", "gz"),
        ("a", ""),
        (".profile", ""),
        ("a.", ""),
        ("dir.d/file", ""),
        ("dir.d\\file", ""),
    ],
)
def test_the_extension_is_what_stands_after_the_last_dot(name: str, ending: str) -> None:
    assert extension(name) == ending


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("Text/CSV; charset=utf-8", "text/csv"),
        ("application/vnd.waybill.demo+json", "application/vnd.waybill.demo+json"),
        ("nonsense", None),
        ("a/b c", None),
        ("", None),
        (None, None),
    ],
)
def test_a_media_type_is_bare_and_lower_case(header: str | None, kind: str | None) -> None:
    assert media_type(header) == kind

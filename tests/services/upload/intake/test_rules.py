"""The type of a file follows from its content, name and declared type."""

import io
import os
import zipfile

import pytest
from docx import Document
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from PIL import Image

from services.upload.intake.rules import HEAD, check_type, judge_type
from services.upload.settings import UploadSettings
from shared.errors import ForbiddenTypeError
from shared.settings import DEMO_TYPE

OOXML = "application/vnd.openxmlformats-officedocument."
NOISE = bytes(range(256)) * 4


def zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def docx() -> bytes:
    file = io.BytesIO()
    document = Document()
    document.add_paragraph("Dear reader")
    document.save(file)
    return file.getvalue()


def xlsx() -> bytes:
    file = io.BytesIO()
    Workbook().save(file)
    return file.getvalue()


def image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, kind)
    return file.getvalue()


EXE = "application/vnd.microsoft.portable-executable"
JAR = "application/java-archive"
PPTX = OOXML + "presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + NOISE


@pytest.mark.parametrize(
    ("content", "name", "declared", "expected"),
    [
        # A signature overrides any claim.
        (b"%PDF-1.7\n%\xe2\xe3\n", "a.pdf", "application/pdf", "application/pdf"),
        (b"%PDF-1.4 all ascii", "a.txt", "text/plain", "application/pdf"),
        (b"\x00\x00junk\n%PDF-1.4", "a", None, "application/pdf"),
        (image("PNG"), "a.jpg", "image/jpeg", "image/png"),
        (image("JPEG"), "a.jpg", None, "image/jpeg"),
        (image("GIF"), "a", None, "image/gif"),
        (image("TIFF"), "a", None, "image/tiff"),
        (image("WEBP"), "a", None, "image/webp"),
        (image("BMP"), "a.bmp", None, "image/bmp"),
        (b"\x1f\x8b\x08" + NOISE, "a.txt.gz", "text/plain", "application/gzip"),
        (b"MZ" + NOISE, "a.pdf", "application/pdf", EXE),
        (b"\x7fELF" + NOISE, "a.txt", "text/plain", "application/x-elf"),
        (b"\xcf\xfa\xed\xfe" + NOISE, "a", None, "application/x-mach-binary"),
        (b"SQLite format 3\x00" + NOISE, "a.db", None, "application/vnd.sqlite3"),
        # Containers: a marker inside, else the name, else the declared type.
        (docx(), "letter.docx", None, OOXML + "wordprocessingml.document"),
        (docx(), "letter", "application/zip", OOXML + "wordprocessingml.document"),
        (docx(), "letter.zip", "application/octet-stream", OOXML + "wordprocessingml.document"),
        (xlsx(), "table.docx", None, OOXML + "spreadsheetml.sheet"),
        (zipped(("[Content_Types].xml", NOISE * 9)), "s.pptx", None, PPTX),
        (zipped(("mimetype", ODT.encode()), ("content.xml", b"<x/>")), "a.zip", None, ODT),
        (zipped(("mimetype", b"application/epub+zip")), "a", None, "application/epub+zip"),
        (zipped(("mimetype", b"text/html")), "a", None, "application/zip"),
        (zipped(("readme.txt", b"hi")), "a.zip", None, "application/zip"),
        (zipped(("readme.txt", b"hi")), "a", JAR, JAR),
        (zipped(("readme.txt", b"hi")), "a.pdf", "application/pdf", "application/zip"),
        (OLE, "a.doc", None, "application/msword"),
        (OLE, "a.xls", "application/msword", "application/vnd.ms-excel"),
        (OLE, "a", "application/vnd.ms-outlook", "application/vnd.ms-outlook"),
        (OLE, "a", None, "application/x-ole-storage"),
        # Text: the type of the name, else the declared one, if it is textual.
        (b"hello", "a.txt", None, "text/plain"),
        (b"hello", "noextension", None, "text/plain"),
        (b"# Title", "a.md", "application/octet-stream", "text/markdown"),
        (b"a,b\n1,2", "a.csv", "application/vnd.ms-excel", "text/csv"),
        (b"a,b\n1,2", "a", "text/csv", "text/csv"),
        (b"a,b\n1,2", "a.txt", "text/csv", "text/csv"),
        (b"a,b\n1,2", "a.csv", "text/plain", "text/csv"),
        (b"<p>hi", "a.html", None, "text/html"),
        (b"<!DOCTYPE html><p>hi", "a", None, "text/html"),
        (b"<!DOCTYPE html><p>hi", "a.txt", None, "text/plain"),
        (b"<?xml version='1.0'?><a/>", "a", None, "application/xml"),
        (b"<?xml version='1.0'?><svg/>", "a.svg", None, "image/svg+xml"),
        (b"From: a@b.example\n\nhi", "a.eml", None, "message/rfc822"),
        (b'{"a": 1}', "a.json", None, "application/json"),
        (b'{"a": 1}', "a", "application/ld+json", "application/ld+json"),
        (b"{\\rtf1 hi}", "a.doc", "application/msword", "application/rtf"),
        (b"this is no PDF", "a.pdf", "application/pdf", "text/plain"),
        (b"echo MZ", "a.exe", "application/x-msdownload", "text/plain"),
        ("grüße".encode(), "a", None, "text/plain"),
        ("grüße".encode("latin-1"), "a.csv", None, "text/csv"),
        ("hello".encode("utf-16"), "a.txt", None, "text/plain"),
        (b"\xef\xbb\xbf<html>", "a", None, "text/html"),
        # Other content: an unproven claim, unless it is textual.
        (NOISE, "a.bin", None, "application/octet-stream"),
        (NOISE, "a.pdf", "image/png", "application/pdf"),
        (NOISE, "a.docx", None, OOXML + "wordprocessingml.document"),
        (NOISE, "a.exe", None, EXE),
        (NOISE, "a.txt", "text/plain", "application/octet-stream"),
        (NOISE, "a", "application/x-lab-data", "application/x-lab-data"),
        (NOISE, "a.mp3", "audio/mpeg", "audio/mpeg"),
        # The demo type is declared, never detected.
        (b"{}", "demo.json", DEMO_TYPE, DEMO_TYPE),
        (b"{}", "demo.json", None, "application/json"),
    ],
)  # fmt: skip
def test_the_type_is_judged(content: bytes, name: str, declared: str | None, expected: str) -> None:
    assert judge_type(content[:HEAD], name=name, declared=declared, demo=True) == expected


def test_a_character_cut_in_two_at_the_end_of_the_head_is_still_text() -> None:
    head = ("x" + "ü" * HEAD).encode()[:HEAD]

    assert judge_type(head, name="a.md", declared=None, demo=False) == "text/markdown"


def test_demo_files_are_refused_where_they_are_switched_off() -> None:
    with pytest.raises(ForbiddenTypeError, match="WAYBILL_DEMO"):
        judge_type(b"{}", name="demo.json", declared=DEMO_TYPE, demo=False)


@given(st.binary(min_size=1, max_size=HEAD), st.text(max_size=20), st.sampled_from([None, "a/b"]))
def test_every_content_has_a_type(content: bytes, name: str, declared: str | None) -> None:
    family, _, rest = judge_type(content, name=name, declared=declared, demo=False).partition("/")

    assert family
    assert rest


@pytest.mark.parametrize(
    ("content_type", "forbidden", "refused"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("image/jpeg", "text/*"), False),
        ("imagery/png", ("image/*",), False),
        ("application/x-elf", UploadSettings().forbidden_types, True),
        ("application/pdf", UploadSettings().forbidden_types, False),
    ],
)
def test_forbidden_types_are_exact_or_families(
    content_type: str, forbidden: tuple[str, ...], refused: bool
) -> None:
    if refused:
        with pytest.raises(ForbiddenTypeError, match="is of type"):
            check_type(content_type, name="x.bin", forbidden=forbidden)
    else:
        check_type(content_type, name="x.bin", forbidden=forbidden)


def test_random_content_is_rarely_taken_for_something() -> None:
    judged = [judge_type(os.urandom(HEAD), name="a", declared=None, demo=False) for _ in range(200)]

    assert judged.count("application/octet-stream") >= 190

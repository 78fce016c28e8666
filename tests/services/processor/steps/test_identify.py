"""The content decides a file's type; the declared type counts where the content is ambiguous."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.processor.steps.identify import identify_type
from services.processor.steps.media_types import DOCX, EPUB, ODS, ODT, PPTX, XLSX
from shared.workerrors import PermanentError
from tests.services.processor.steps import documents
from tests.services.processor.steps.processing import Processing
from waybill.samples import (
    SampleFile,
    docx_sample,
    email_sample,
    html_sample,
    pdf_sample,
    picture_sample,
    sample_files,
    xlsx_sample,
)

BINARY = bytes(range(256)) * 4


def identified(folder: Path, content: bytes, declared: str) -> str:
    path = folder / "file"
    path.write_bytes(content)
    return identify_type(path, declared)


def mismatch(folder: Path, content: bytes, declared: str) -> str:
    with pytest.raises(PermanentError) as caught:
        identified(folder, content, declared)
    assert caught.value.error_code == "content_type_mismatch"
    return caught.value.detail


@pytest.mark.parametrize("sample", sample_files()[:8], ids=lambda sample: sample.name)
def test_every_sample_is_what_it_says(tmp_path: Path, sample: SampleFile) -> None:
    assert identified(tmp_path, sample.content, sample.content_type) == sample.content_type


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (pdf_sample().content, "application/pdf"),
        (docx_sample().content, DOCX),
        (xlsx_sample().content, XLSX),
        (documents.pptx("x"), PPTX),
        (documents.odt("x"), ODT),
        (documents.ods("x"), ODS),
        (documents.epub("x"), EPUB),
        (documents.zipped({"word/notes.txt": "no document"}), "application/zip"),
        (documents.zipped({}), "application/zip"),
        (picture_sample().content, "image/png"),
        *[
            (documents.scanned(format_), f"image/{format_.lower()}")
            for format_ in ("JPEG", "GIF", "TIFF", "BMP", "WEBP")
        ],
        (html_sample().content, "text/html"),
        (email_sample().content, "message/rfc822"),
        (b'<?xml version="1.0"?><a/>', "application/xml"),
        (rb"{\rtf1 words}", "application/rtf"),
        ("Größe".encode(), "text/plain"),
        ("Größe".encode("latin-1"), "text/plain"),
        ("Größe".encode("utf-16"), "text/plain"),
        (b"", "text/plain"),
        (b"wOF2" + BINARY, "font/woff2"),
        (BINARY, "application/octet-stream"),
    ],
)
def test_a_file_of_no_declared_type_is_known_by_its_content(
    tmp_path: Path, content: bytes, content_type: str
) -> None:
    assert identified(tmp_path, content, "application/octet-stream") == content_type


def test_a_difference_is_noted_and_the_file_is_worked_on_as_what_it_is(
    processing: Processing,
) -> None:
    document = processing.run(xlsx_sample().content, DOCX)
    assert document.statistics["identified_type"] == XLSX
    assert document.content_type == XLSX
    assert "file.uploaded" in (document.text or "")


def test_an_archive_that_holds_a_document_is_that_document(tmp_path: Path) -> None:
    assert identified(tmp_path, docx_sample().content, "application/zip") == DOCX


def test_an_archive_keeps_the_name_of_its_kind(tmp_path: Path) -> None:
    archive = documents.zipped({"META-INF/MANIFEST.MF": ""})
    assert identified(tmp_path, archive, "application/java-archive") == "application/java-archive"


@pytest.mark.parametrize("declared", ["text/csv", "text/markdown", "application/json"])
def test_a_text_keeps_the_kind_of_text_it_is_declared_to_be(tmp_path: Path, declared: str) -> None:
    assert identified(tmp_path, b"a,b\n1,2\n", declared) == declared


def test_a_text_about_pdf_is_no_pdf(tmp_path: Path) -> None:
    assert identified(tmp_path, b"A PDF begins with %PDF-1.7.", "text/plain") == "text/plain"


def test_a_pdf_may_begin_a_little_later(tmp_path: Path) -> None:
    content = b"\n" * 100 + pdf_sample().content
    assert identified(tmp_path, content, "application/pdf") == "application/pdf"


def test_a_type_that_content_cannot_disprove_is_kept(tmp_path: Path) -> None:
    assert identified(tmp_path, BINARY, "application/x-own-format") == "application/x-own-format"


def test_binary_content_is_no_text_whatever_was_declared(tmp_path: Path) -> None:
    assert identified(tmp_path, BINARY, "text/plain") == "application/octet-stream"


@pytest.mark.parametrize("content", [b"just words", BINARY, picture_sample().content])
def test_a_file_declared_a_pdf_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "declared as a PDF" in mismatch(tmp_path, content, "application/pdf")


def test_a_file_declared_an_image_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "content is text/plain" in mismatch(tmp_path, b"just words", "image/png")


def test_an_archive_declared_a_document_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "application/zip" in mismatch(tmp_path, documents.zipped({"a.txt": "a"}), DOCX)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"BM", b"\xff\xfe", b"RIFF"]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_of_some_type(tmp_path: Path, head: bytes, rest: bytes) -> None:
    assert "/" in identified(tmp_path, head + rest, "application/octet-stream")


@pytest.mark.parametrize("cut", [100, 500, 1000, 1600])
def test_a_torn_archive_keeps_its_declared_type(tmp_path: Path, cut: int) -> None:
    """The parser reports the damage."""
    assert identified(tmp_path, docx_sample().content[:cut], DOCX) == DOCX


def test_an_archive_of_very_many_files_is_not_looked_through(tmp_path: Path) -> None:
    content = documents.zipped({f"word/{number:060}": "" for number in range(50_000)})
    assert identified(tmp_path, content, "application/zip") == "application/zip"


def test_a_document_with_a_password_is_told_as_one(processing: Processing) -> None:
    for declared in ("application/x-ole-storage", DOCX, "application/octet-stream"):
        code = processing.permanent_error(documents.protected_docx(), declared)
        assert code == "encrypted_document"


def test_another_ole_file_is_left_alone(tmp_path: Path) -> None:
    content = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + os.urandom(2000)
    assert identified(tmp_path, content, "application/msword") == "application/msword"

"""PDFs are read as text or with OCR; damaged and protected ones are reported."""

import io

import pytest
from PIL import Image

from services.processor.steps import pdf
from services.processor.steps.media_types import PDF
from tests.services.processor.steps import documents
from tests.services.processor.steps.processing import Processing
from waybill.samples import corrupt_pdf, pdf_sample, picture_sample
from waybill.samples.pdf import write_pdf


def label() -> Image.Image:
    return Image.open(io.BytesIO(picture_sample().content))


def test_its_pages_are_counted(processing: Processing) -> None:
    document = processing.run(pdf_sample().content, PDF)
    assert document.statistics["pages"] == 3
    assert "ocr_pages" not in document.statistics


def test_a_torn_one_is_told_as_damaged(processing: Processing) -> None:
    assert processing.permanent_error(corrupt_pdf().content, PDF) == "corrupt_document"


def test_one_with_a_password_is_told_as_protected(processing: Processing) -> None:
    content = documents.protected_pdf("secret words", opened_by="open sesame")
    assert processing.permanent_error(content, PDF) == "encrypted_document"


def test_one_that_is_protected_without_a_password_is_read(processing: Processing) -> None:
    content = documents.protected_pdf("words for everyone", opened_by="")
    assert processing.text(content, PDF) == "words for everyone"


def test_a_scanned_one_is_read_page_by_page(processing: Processing) -> None:
    content = documents.scanned("PDF", [label(), documents.blank_picture(), label()])
    document = processing.run(content, PDF)
    assert (document.text or "").count("Please handle with care") == 2
    assert document.statistics["pages"] == 3
    assert document.statistics["ocr_pages"] == 3
    reading = [report for report in processing.context.reports if report[0] == "reading images"]
    assert reading == [("reading images", done, 3) for done in range(3)]


def test_a_scanned_one_is_only_counted_where_reading_images_is_off(processing: Processing) -> None:
    processing.context.ocr = False
    document = processing.run(documents.scanned("PDF"), PDF)
    assert document.statistics == {"pages": 1, "characters": 0, "words": 0, "lines": 0}
    assert "text.txt" not in processing.context.artifacts


def test_of_a_long_scanned_one_the_first_pages_are_read_and_that_is_told(
    processing: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    content = documents.scanned("PDF", [documents.blank_picture() for _ in range(5)])
    statistics = processing.run(content, PDF).statistics
    assert (statistics["ocr_pages"], statistics["ocr_pages_skipped"]) == (2, 3)


def test_an_empty_page_is_not_drawn(processing: Processing) -> None:
    statistics = processing.run(write_pdf(["", "words"], title=""), PDF).statistics
    assert statistics["pages"] == 2
    assert "ocr_pages" not in statistics

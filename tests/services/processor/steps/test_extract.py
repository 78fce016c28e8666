"""Documents of every format are extracted; damaged ones are reported."""

import json
from email.message import EmailMessage

import pytest

from services.processor.steps import extract
from services.processor.steps.media_types import DOCX, EMAIL, EPUB, HTML, ODS, ODT, PPTX, RTF, XLSX
from tests.services.processor.steps import documents
from tests.services.processor.steps.processing import Processing
from waybill.samples import SampleFile, docx_sample, pdf_sample, xlsx_sample


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (documents.pptx("parcels on their way"), PPTX),
        (documents.odt("parcels on their way"), ODT),
        (documents.ods("parcels on their way"), ODS),
        (documents.epub("parcels on their way"), EPUB),
        (rb"{\rtf1\ansi {\b parcels} on their way\par}", RTF),
    ],
)
def test_the_rarer_formats_are_read_too(
    processing: Processing, content: bytes, content_type: str
) -> None:
    assert "parcels on their way" in processing.text(content, content_type)


def test_what_is_attached_to_an_email_is_read_with_it(processing: Processing) -> None:
    message = EmailMessage()
    message["Subject"] = "Two documents"
    message.set_content("See what is attached.")
    message.add_attachment(
        pdf_sample().content, maintype="application", subtype="pdf", filename="journey.pdf"
    )
    text = processing.text(message.as_bytes(), EMAIL)
    assert text.index("See what is attached.") < text.index("journey.pdf")
    assert text.index("journey.pdf") < text.index("How a file travels")


def test_the_sheets_of_a_workbook_are_counted(processing: Processing) -> None:
    document = processing.run(xlsx_sample().content, XLSX)
    assert document.statistics["sheets"] == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_a_web_page_is_read_in_the_encoding_it_declares(
    processing: Processing, encoding: str
) -> None:
    page = f'<html><head><meta charset="{encoding}"></head><body><p>Größe</p></body></html>'
    assert processing.text(page.encode(encoding), HTML) == "Größe"


def test_an_encoding_that_is_none_of_text_is_not_used(processing: Processing) -> None:
    page = b'<html><head><meta charset="zlib"></head><body>caf\xe9</body></html>'
    assert processing.text(page, HTML) == "café"


def test_scripts_and_styles_are_no_text(processing: Processing) -> None:
    page = b"<html><head><style>p {}</style><script>let a</script></head><p>words</p></html>"
    assert processing.text(page, HTML) == "words"


def test_the_metadata_that_is_kept_is_simple(processing: Processing) -> None:
    processing.run(docx_sample().content, DOCX)
    _, content = processing.context.artifacts["metadata.json"]
    metadata = json.loads(content)
    assert metadata["title"] == "Delivery note"
    assert metadata["authors"] == ["Waybill"]
    assert not any(isinstance(value, dict) or value is None for value in metadata.values())


@pytest.mark.parametrize("sample", [docx_sample(), xlsx_sample()], ids=lambda each: each.name)
def test_a_torn_document_is_told_as_damaged(processing: Processing, sample: SampleFile) -> None:
    torn = sample.content[: len(sample.content) // 2]
    assert processing.permanent_error(torn, sample.content_type) == "corrupt_document"


def test_a_presentation_with_a_damaged_part_is_told_as_damaged(processing: Processing) -> None:
    content = bytearray(documents.pptx("parcels on their way"))
    content[content.index(b"slides/slide1.xml") + 50] ^= 0xFF
    assert processing.permanent_error(bytes(content), PPTX) == "corrupt_document"


def test_a_document_that_unpacks_to_far_more_than_its_size_is_refused(
    processing: Processing,
) -> None:
    assert processing.permanent_error(documents.docx_bomb(), DOCX) == "decompression_bomb"


def test_a_document_that_is_too_large_is_refused(
    processing: Processing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "MAX_DOCUMENT", 1000)
    assert processing.permanent_error(docx_sample().content, DOCX) == "document_too_large"

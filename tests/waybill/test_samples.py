"""Other libraries can read the sample files."""

import io

import docx
import openpyxl
import pypdfium2
import pytest

from waybill.samples import (
    corrupt_pdf,
    docx_sample,
    pdf_sample,
    sample_files,
    xlsx_sample,
)


def test_the_samples_are_the_same_bytes_each_time() -> None:
    assert sample_files() == sample_files()


def test_no_two_samples_share_a_name() -> None:
    names = [each.name for each in sample_files()]
    assert len(names) == len(set(names))


def test_the_pdf_opens_with_its_pages_and_their_text() -> None:
    with pypdfium2.PdfDocument(pdf_sample().content) as pdf:
        texts = [page.get_textpage().get_text_range() for page in pdf]
    assert [text.splitlines()[0] for text in texts] == [
        "How a file travels",
        "The three services",
        "What is promised",
    ]


def test_the_torn_pdf_does_not_open() -> None:
    with pytest.raises(pypdfium2.PdfiumError):
        pypdfium2.PdfDocument(corrupt_pdf().content)


def test_the_word_document_opens_with_its_paragraphs_and_its_table() -> None:
    document = docx.Document(io.BytesIO(docx_sample().content))
    assert document.paragraphs[0].text == "Delivery note"
    assert document.core_properties.title == "Delivery note"
    assert document.tables[0].cell(1, 0).text == "Upload"


def test_the_workbook_opens_with_its_sheets_and_their_cells() -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(xlsx_sample().content))
    assert workbook.sheetnames == ["Topics", "Statuses"]
    assert workbook["Topics"]["C2"].value == 12

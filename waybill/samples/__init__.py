"""Sample files generated in code, one for each supported format."""

import json
from dataclasses import dataclass
from email.message import EmailMessage

from shared.settings import DEMO_TYPE
from waybill.samples import texts
from waybill.samples.office import DOCX_TYPE, XLSX_TYPE, write_docx, write_xlsx
from waybill.samples.pdf import write_pdf
from waybill.samples.picture import write_png


@dataclass(frozen=True)
class SampleFile:
    """A sample file to upload."""

    name: str
    content_type: str
    content: bytes


def sample_files() -> list[SampleFile]:
    """Return one file of every format that Waybill reads, and two demo files.

    The bytes are the same each time.
    """
    return [
        pdf_sample(),
        docx_sample(),
        xlsx_sample(),
        html_sample(),
        markdown_sample(),
        email_sample(),
        picture_sample(),
        german_sample(),
        demo_sample("long-journey.json", seconds=20, steps=20),
        demo_sample("lost-parcel.json", seconds=2, steps=4, then="fail"),
    ]


def pdf_sample() -> SampleFile:
    """Return a PDF with three pages."""
    content = write_pdf(texts.PDF_PAGES, title="How a file travels")
    return SampleFile("how-a-file-travels.pdf", "application/pdf", content)


def docx_sample() -> SampleFile:
    """Return a Word document with a table."""
    content = write_docx(texts.DOCX_PARAGRAPHS, title=texts.DOCX_TITLE, table=texts.DOCX_TABLE)
    return SampleFile("delivery-note.docx", DOCX_TYPE, content)


def xlsx_sample() -> SampleFile:
    """Return an Excel workbook with two sheets."""
    content = write_xlsx(texts.XLSX_SHEETS, title="Topics and statuses")
    return SampleFile("topics-and-statuses.xlsx", XLSX_TYPE, content)


def html_sample() -> SampleFile:
    """Return an HTML page."""
    return SampleFile("welcome.html", "text/html", texts.HTML.encode())


def markdown_sample() -> SampleFile:
    """Return a Markdown file with a table."""
    return SampleFile("notes-of-a-dispatcher.md", "text/markdown", texts.MARKDOWN.encode())


def email_sample() -> SampleFile:
    """Return an email with an attachment."""
    message = EmailMessage()
    message["From"] = "Night shift <night@waybill.example>"
    message["To"] = "Early shift <early@waybill.example>"
    message["Subject"] = "Deliveries of this morning"
    message["Date"] = "Mon, 03 Mar 2025 06:50:00 +0000"
    message.set_content(texts.EML_BODY)
    message.add_attachment(texts.EML_ATTACHMENT, subtype="csv", filename="timetable.csv")
    message.set_boundary("waybill-sample")
    return SampleFile("deliveries.eml", "message/rfc822", message.as_bytes())


def picture_sample() -> SampleFile:
    """Return an image that contains text."""
    return SampleFile("parcel-label.png", "image/png", write_png(texts.PNG_LINES))


def german_sample() -> SampleFile:
    """Return a plain text file in German."""
    return SampleFile("frachtbrief.txt", "text/plain", texts.GERMAN.encode())


def demo_sample(name: str, **asked: float | str) -> SampleFile:
    """Return a demo file, whose processing time and outcome are given by its content."""
    return SampleFile(name, DEMO_TYPE, json.dumps(asked, indent=2).encode())


def corrupt_pdf() -> SampleFile:
    """Return a truncated PDF."""
    whole = pdf_sample()
    return SampleFile("torn.pdf", whole.content_type, whole.content[: len(whole.content) // 3])

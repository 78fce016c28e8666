"""Read PDF files: their text and, for pages without text, OCR of the rendered page."""

from typing import TYPE_CHECKING

from services.processor.steps.document import Context, Document
from services.processor.steps.extract import corrupt, extract, keep_metadata
from services.processor.steps.ocr import MAX_PAGES, MAX_SIDE, read_picture
from services.processor.steps.text import unify_lines
from shared.workerrors import PermanentError

if TYPE_CHECKING:
    from PIL.Image import Image
    from pypdfium2 import PdfDocument

_MAX_SCALE = 300 / 72
"""Pixels per point, at most: 300 dpi, the usual resolution of scanned text."""


def read_pdf(document: Document, context: Context) -> Document:
    """Count and extract the pages; pages without text are rendered and recognized.

    Raises:
        PermanentError: `corrupt_document`, `encrypted_document`, `decompression_bomb` or
            `document_too_large`.
    """
    from pypdfium2 import PdfiumError

    context.progress(0, 1, phase="extracting")
    try:
        with _open(document) as pdf:
            document.statistics["pages"] = len(pdf)
            result = extract(document, by_page=True)
            texts = [unify_lines(page["content"]) for page in result.pages or []]
            if context.ocr:
                _read_drawn_pages(pdf, texts, document, context)
    except PdfiumError as error:
        raise corrupt(document) from error
    document.text = "\n\n".join(text for text in texts if text.strip())
    keep_metadata(result, context)
    return document


def _open(document: Document) -> "PdfDocument":
    from pypdfium2 import PdfDocument, PdfiumError
    from pypdfium2.raw import FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY

    try:
        return PdfDocument(document.path)
    except PdfiumError as error:
        if error.err_code not in (FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY):
            raise
        raise PermanentError(
            "encrypted_document",
            "The document is protected by a password. Send a copy without a password.",
        ) from error


def _read_drawn_pages(
    pdf: "PdfDocument", texts: list[str], document: Document, context: Context
) -> None:
    """Recognize the pages that have content but no text."""
    drawn = [
        number
        for number, text in enumerate(texts)
        if not text.strip() and _has_content(pdf, number)
    ]
    to_read = drawn[:MAX_PAGES]
    for done, number in enumerate(to_read):
        context.progress(done, len(to_read), phase="reading images")
        texts[number] = read_picture(_draw(pdf, number))
    if drawn:
        document.statistics["ocr_pages"] = len(to_read)
    if len(drawn) > len(to_read):
        document.statistics["ocr_pages_skipped"] = len(drawn) - len(to_read)


def _has_content(pdf: "PdfDocument", number: int) -> bool:
    page = pdf[number]
    try:
        return any(True for _ in page.get_objects(max_depth=1))
    finally:
        page.close()


def _draw(pdf: "PdfDocument", number: int) -> "Image":
    page = pdf[number]
    try:
        scale = min(_MAX_SCALE, MAX_SIDE / max(page.get_size()))
        picture: Image = page.render(scale=scale, rev_byteorder=True).to_pil()
        return picture.convert("RGB")
    finally:
        page.close()

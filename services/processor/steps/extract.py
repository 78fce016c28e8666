"""Extract the text and metadata of documents with kreuzberg."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from services.processor.steps.document import Context, Document
from services.processor.steps.text import read_decoded, unify_lines
from shared.workerrors import PermanentError

if TYPE_CHECKING:
    from kreuzberg import ExtractionConfig, ExtractionResult

MAX_DOCUMENT = 200 << 20
"""Bytes of a document. Extraction takes three times its size in memory for a PDF and eight times
for an e-mail. That just fits the default memory limit of a worker."""

_SECURITY_LIMIT = "Security limit exceeded"
"""Start of kreuzberg's message when a document unpacks to far more than its size."""


def read_document(document: Document, context: Context) -> Document:
    """Extract an office document or an e-mail, including attached documents.

    Raises:
        PermanentError: `corrupt_document`, `document_too_large` or `decompression_bomb`.
    """
    context.progress(0, 1, phase="extracting")
    result = extract(document)
    document.text = "\n\n".join(unify_lines(text) for text in _texts(result) if text)
    sheets = result.metadata.get("sheet_count")
    if isinstance(sheets, int):
        document.statistics["sheets"] = sheets
    keep_metadata(result, context)
    return document


def read_markup(document: Document, context: Context) -> Document:
    """Extract a web page or a Markdown file.

    Raises:
        PermanentError: `corrupt_document`.
    """
    context.progress(0, 1, phase="extracting")
    # kreuzberg assumes that all text is UTF-8.
    result = extract(document, content=read_decoded(document).encode(errors="replace"))
    document.text = unify_lines(result.content)
    keep_metadata(result, context)
    return document


def extract(
    document: Document, *, content: bytes | None = None, by_page: bool = False
) -> "ExtractionResult":
    """Extract a document with kreuzberg.

    Args:
        content: bytes to extract instead of the file's own content.
        by_page: also return the text of each page.

    Raises:
        PermanentError: `corrupt_document`, `document_too_large` or `decompression_bomb`.
    """
    from kreuzberg import extract_bytes_sync, extract_file_sync
    from kreuzberg.exceptions import KreuzbergError

    if content is None and document.size > MAX_DOCUMENT:
        raise PermanentError(
            "document_too_large",
            f"The document is {document.size >> 20} MiB; the limit is {MAX_DOCUMENT >> 20} MiB. "
            "Split it into parts.",
        )
    config = _config(by_page=by_page)
    try:
        if content is not None:
            return extract_bytes_sync(content, document.content_type, config)
        return extract_file_sync(document.path, document.content_type, config)
    except (KreuzbergError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # A fault of the machine, not of the document.
        if _SECURITY_LIMIT in str(error):
            raise PermanentError(
                "decompression_bomb",
                "The document claims to unpack to far more than its size. Such documents are "
                "usually damaged or malicious. If it is genuine, split it into parts.",
            ) from error
        raise corrupt(document) from error


def corrupt(document: Document) -> PermanentError:
    """Return the error for a damaged document."""
    return PermanentError(
        "corrupt_document",
        f"The file is damaged: it cannot be read as {document.content_type}. "
        "Open it with the program that created it, save it again and upload the new copy.",
    )


def keep_metadata(result: "ExtractionResult", context: Context) -> None:
    """Store the document's own metadata as `metadata.json`, if it has any."""
    metadata = _simple(result.metadata)
    if metadata:
        content = json.dumps(metadata, ensure_ascii=False, indent=2)
        context.artifact("metadata.json", "application/json", content)


def _config(*, by_page: bool) -> "ExtractionConfig":
    from kreuzberg import ConcurrencyConfig, ExtractionConfig, PageConfig

    return ExtractionConfig(
        use_cache=False,  # No content may remain on the machine.
        concurrency=ConcurrencyConfig(max_threads=1),  # A pod has one worker per core.
        pages=PageConfig(extract_pages=by_page),
    )


def _texts(result: "ExtractionResult") -> list[str]:
    """Return the text of a document, followed by its attachments, each after its name."""
    texts = [result.content]
    for child in result.children or []:
        texts += [child["path"], *_texts(child["result"])]
    return texts


def _simple(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are single values or lists of single values."""
    return {
        key: value
        for key, value in metadata.items()
        if _is_single(value) or (isinstance(value, list) and value and all(map(_is_single, value)))
    }


def _is_single(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and value != "")

"""The text and the metadata of documents, read by kreuzberg."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from services.processor.steps.document import Context, Document
from services.processor.steps.text import read_decoded, unify_lines
from shared.workerrors import PermanentError

if TYPE_CHECKING:
    from kreuzberg import ExtractionConfig, ExtractionResult

MAX_DOCUMENT = 200 << 20
"""Bytes of a document. Reading takes three times its size in memory for a PDF and eight times for
an e-mail, which just fits the default memory limit of a worker."""

_SECURITY_LIMIT = "Security limit exceeded"
"""How kreuzberg's message begins when a document unpacks to far more than its size."""


def read_document(document: Document, context: Context) -> Document:
    """Read an office document or an e-mail, and the documents attached to it.

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
    """Read a web page or a Markdown file.

    Raises:
        PermanentError: `corrupt_document`.
    """
    context.progress(0, 1, phase="extracting")
    # kreuzberg takes all text for UTF-8, so that it gets just that.
    result = extract(document, content=read_decoded(document).encode(errors="replace"))
    document.text = unify_lines(result.content)
    keep_metadata(result, context)
    return document


def extract(
    document: Document, *, content: bytes | None = None, by_page: bool = False
) -> "ExtractionResult":
    """What kreuzberg reads in the document.

    Args:
        content: what is to be read in place of the file's own content.
        by_page: whether the text of each page is wanted on its own too.

    Raises:
        PermanentError: `corrupt_document`, `document_too_large` or `decompression_bomb`.
    """
    from kreuzberg import extract_bytes_sync, extract_file_sync
    from kreuzberg.exceptions import KreuzbergError

    if content is None and document.size > MAX_DOCUMENT:
        raise PermanentError(
            "document_too_large",
            f"Documents are read up to {MAX_DOCUMENT >> 20} MiB, and this one has "
            f"{document.size >> 20} MiB. Send it in parts.",
        )
    config = _config(by_page=by_page)
    try:
        if content is not None:
            return extract_bytes_sync(content, document.content_type, config)
        return extract_file_sync(document.path, document.content_type, config)
    except (KreuzbergError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # It is the machine that fails, not the document.
        if _SECURITY_LIMIT in str(error):
            raise PermanentError(
                "decompression_bomb",
                "The document claims to unpack to far more than its size, as only a damaged or a "
                "malicious one does. If it is genuine, send it in parts.",
            ) from error
        raise corrupt(document) from error


def corrupt(document: Document) -> PermanentError:
    """The error of a document that is damaged."""
    return PermanentError(
        "corrupt_document",
        f"The file is damaged: it cannot be read as {document.content_type}. "
        "Open it with the program that made it, save it anew and send that.",
    )


def keep_metadata(result: "ExtractionResult", context: Context) -> None:
    """Keep what the document says about itself as `metadata.json`, if it says anything."""
    metadata = _simple(result.metadata)
    if metadata:
        content = json.dumps(metadata, ensure_ascii=False, indent=2)
        context.artifact("metadata.json", "application/json", content)


def _config(*, by_page: bool) -> "ExtractionConfig":
    from kreuzberg import ConcurrencyConfig, ExtractionConfig, PageConfig

    return ExtractionConfig(
        use_cache=False,  # Nothing of a file is to stay on the machine.
        concurrency=ConcurrencyConfig(max_threads=1),  # A pod has a worker for each core.
        pages=PageConfig(extract_pages=by_page),
    )


def _texts(result: "ExtractionResult") -> list[str]:
    """The text of a document, then the texts of what is attached to it, each under its name."""
    texts = [result.content]
    for child in result.children or []:
        texts += [child["path"], *_texts(child["result"])]
    return texts


def _simple(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are single values or lists of such."""
    return {
        key: value
        for key, value in metadata.items()
        if _is_single(value) or (isinstance(value, list) and value and all(map(_is_single, value)))
    }


def _is_single(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and value != "")

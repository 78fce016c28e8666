"""The last step: count the extracted text and store it."""

import re

from services.processor.steps.document import Context, Document

_WORD = re.compile(r"\S+")

_ENOUGH = 20_000
"""Characters used to detect the language; more do not improve the result."""


def count(document: Document, context: Context) -> Document:
    """Count the text, detect its language, and store it as `text.txt`."""
    text = document.text
    if text is None:
        return document
    context.progress(0, 1, phase="counting")
    document.statistics |= count_text(text)
    if text.strip():
        if language := detect_language(text):
            document.statistics["language"] = language
        context.artifact("text.txt", "text/plain; charset=utf-8", text)
    return document


def count_text(text: str) -> dict[str, int]:
    """Return the numbers of characters, whitespace-separated words, and lines."""
    return {
        "characters": len(text),
        "words": sum(1 for _ in _WORD.finditer(text)),
        "lines": text.count("\n") + (text != "" and not text.endswith("\n")),
    }


def detect_language(text: str) -> str | None:
    """Return the language (ISO 639-3) of a text, or None if it is too short to be sure."""
    from kreuzberg import ExtractionConfig, LanguageDetectionConfig, extract_bytes_sync

    config = ExtractionConfig(use_cache=False, language_detection=LanguageDetectionConfig())
    sample = text[:_ENOUGH].encode(errors="replace")
    languages = extract_bytes_sync(sample, "text/plain", config).detected_languages
    return languages[0] if languages else None

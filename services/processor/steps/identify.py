"""The first step: identify the file's real type from its content.

The type recorded at upload is based on the first bytes, the name and the client's declaration. This
step can read the whole file. It inspects containers and detects declared types that the content
disproves:

1. A signature takes precedence over the declared type. The entries of a zip archive reveal its
   type.
2. Text keeps a declared textual type. Otherwise its first words decide.
3. Other content keeps a declared type that cannot be disproved. Otherwise puremagic may identify
   it.

A file declared as a PDF, an office document or an image that is not one is rejected. Any other
difference is recorded, and the file is processed as its real type.
"""

import zipfile
from pathlib import Path

from services.processor.steps.containers import is_encrypted_office, office_type
from services.processor.steps.document import Context, Document
from services.processor.steps.media_types import (
    BMP,
    EMAIL,
    GIF,
    HTML,
    IMAGES,
    JPEG,
    OCTET_STREAM,
    OFFICE,
    OLE,
    PDF,
    PLAIN_TEXT,
    PNG,
    RTF,
    TIFF,
    WEBP,
    XML,
    ZIP,
    is_textual,
)
from shared.workerrors import PermanentError

_HEAD = 8192
"""Bytes at the start of a file that are checked for signatures and for text."""

_PDF_HEADER_WITHIN = 1024
"""Bytes at the start of a file anywhere in which PDF readers accept the header."""

_SIGNATURES = (
    (0, b"%PDF-", PDF),
    (0, b"\x89PNG\r\n\x1a\n", PNG),
    (0, b"\xff\xd8\xff", JPEG),
    (0, b"GIF87a", GIF),
    (0, b"GIF89a", GIF),
    (0, b"II*\x00", TIFF),
    (0, b"MM\x00*", TIFF),
    (8, b"WEBP", WEBP),
    (0, b"PK\x03\x04", ZIP),
    (0, b"PK\x05\x06", ZIP),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (0, b"{\\rtf", RTF),
)
"""(offset, bytes, type) of the signatures that decide how a file is processed."""

_NEVER_IN_TEXT = bytes({*range(32)} - {*b"\t\n\r\f\b\x1b"}) + b"\x7f"

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

_EMAIL_STARTS = (b"received:", b"return-path:", b"mime-version:", b"message-id:", b"from:")

_PUREMAGIC_CONFIDENT = 0.4
"""puremagic's confidence for a match of four bytes; shorter matches are chance."""


def identify(document: Document, context: Context) -> Document:
    """Set the type found in the content, and record it if it differs from the declared one.

    Raises:
        PermanentError: `content_type_mismatch` or `encrypted_document`.
    """
    context.progress(0, 1, phase="identifying")
    found = identify_type(document.path, document.content_type)
    if found != document.content_type:
        document.statistics["identified_type"] = found
        document.content_type = found
    return document


def identify_type(path: Path, declared: str) -> str:
    """Return the type of the file at `path` by the rules above.

    Raises:
        PermanentError: `content_type_mismatch` or `encrypted_document`.
    """
    found = _find_type(path, declared)
    kind = _provable_kind(declared)
    if kind and _provable_kind(found) != kind:
        raise PermanentError(
            "content_type_mismatch",
            f"The file was declared as {kind} ({declared}), but its content is {found}. "
            "Send it with the right name and type, or send an undamaged copy.",
        )
    return found


def _find_type(path: Path, declared: str) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    signed = _signed_type(head, declared)
    if signed == ZIP:
        return _zipped_type(path, declared)
    if signed == OLE:
        return _ole_type(path, declared)
    if signed:
        return signed
    if _is_text(head):
        return declared if is_textual(declared) else _textual_type(head)
    return _unprovable(declared) or _puremagic_type(head)


def _provable_kind(content_type: str) -> str | None:
    """Return what files of this type are, if their content can prove it."""
    if content_type == PDF:
        return "a PDF"
    if content_type in OFFICE:
        return "an office document"
    return "an image" if content_type in IMAGES else None


def _unprovable(declared: str) -> str | None:
    """Return the declared type if binary content cannot disprove it."""
    is_disproved = _provable_kind(declared) or is_textual(declared) or declared == OCTET_STREAM
    return None if is_disproved else declared


def _signed_type(head: bytes, declared: str) -> str | None:
    for offset, magic, content_type in _SIGNATURES:
        if head.startswith(magic, offset):
            return content_type
    # Two letters could be chance, but not together with the length of the header.
    if head.startswith(b"BM") and head[15:18] == b"\x00\x00\x00":
        return BMP
    # Text may mention PDF, so a later header only counts if a PDF was declared.
    if declared == PDF and b"%PDF-" in head[:_PDF_HEADER_WITHIN]:
        return PDF
    return None


def _is_text(head: bytes) -> bool:
    if head.startswith(_UTF16_MARKS):
        even = head[: len(head) // 2 * 2]
        return "\x00" not in even.decode("utf-16", errors="replace")
    return len(head.translate(None, _NEVER_IN_TEXT)) == len(head)


def _textual_type(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    if start.startswith(b"<?xml"):
        return XML
    return EMAIL if start.startswith(_EMAIL_STARTS) else PLAIN_TEXT


def _zipped_type(path: Path, declared: str) -> str:
    try:
        return office_type(path) or _unprovable(declared) or ZIP
    except zipfile.BadZipFile:
        # The parser will report the damage.
        return declared if declared in OFFICE else _unprovable(declared) or ZIP


def _ole_type(path: Path, declared: str) -> str:
    if declared in OFFICE | {OLE, OCTET_STREAM} and is_encrypted_office(path):
        raise PermanentError(
            "encrypted_document",
            "The document is protected by a password. Send a copy without a password.",
        )
    return _unprovable(declared) or OLE


def _puremagic_type(head: bytes) -> str:
    import puremagic

    try:
        best = puremagic.magic_string(head)[0]
    except puremagic.PureError:
        return OCTET_STREAM
    is_sure = best.confidence >= _PUREMAGIC_CONFIDENT and best.mime_type
    return best.mime_type.lower() if is_sure else OCTET_STREAM

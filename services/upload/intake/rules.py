"""Detect the type of a file, and check whether it is accepted.

There are three sources: the first bytes of the content, the extension of the name, and the declared
type. They are weighed as follows:

1. The demo type cannot be detected. It is used if the client declares it and demo files are
   enabled, and rejected if they are disabled.
2. A signature in the content overrides any claim. For a zip or OLE container, it proves only the
   family. A marker inside, then the name, then the declared type select the member.
3. Text content gets the textual type of the name, or else the declared one; other claims are
   ignored. Without a claim, HTML and XML are recognized by their first characters. Everything else
   is plain text.
4. Other content gets the type that puremagic detects, or else the one that the name or the
   declaration claims, unless that is textual. The default is `application/octet-stream`. Such a
   claim is unproven: the processor reads the whole file and reports an invalid PDF to the user.
"""

import puremagic

from services.upload.body.names import extension
from services.upload.intake.filetypes import (
    BY_EXTENSION,
    OCTET_STREAM,
    OLE,
    OLE_STORED,
    PDF,
    PLAIN_TEXT,
    SIGNATURES,
    TEXTUAL,
    ZIP,
    ZIP_MARKS,
    ZIPPED,
)
from services.upload.settings import UploadSettings
from shared.errors import ForbiddenTypeError
from shared.settings import DEMO_TYPE

HEAD = 8192
"""Bytes at the start of a file that are used to detect its type."""

_PDF_HEADER_WITHIN = 1024
"""PDF readers accept the header anywhere in these first bytes."""

_NEVER_IN_TEXT = bytes({*range(32)} - {*b"\t\n\r\f\b\x1b"}) + b"\x7f"

_PUREMAGIC_CONFIDENT = 0.4
"""Confidence of puremagic for a match of four bytes; shorter matches are often accidental."""


def accepted_type(head: bytes, *, name: str, declared: str | None, settings: UploadSettings) -> str:
    """Return the type of a file as `judge_type` does, if it is accepted.

    Raises:
        ForbiddenTypeError: The settings forbid the type.
    """
    content_type = judge_type(head, name=name, declared=declared, demo=settings.demo)
    check_type(content_type, name=name, forbidden=settings.forbidden_types)
    return content_type


def judge_type(head: bytes, *, name: str, declared: str | None, demo: bool) -> str:
    """Return the type of a file by the rules above.

    Args:
        head: The first `HEAD` bytes, or the whole file if it is shorter.
        name: The file name.
        declared: The lower-case media type that the client sent, without parameters.
        demo: True if demo files are enabled.

    Raises:
        ForbiddenTypeError: The file is a demo file, and they are disabled.
    """
    if declared == DEMO_TYPE:
        if not demo:
            raise ForbiddenTypeError(
                "Demo files are disabled; set WAYBILL_DEMO=true to enable them."
            )
        return DEMO_TYPE
    claims = [claim for claim in (BY_EXTENSION.get(extension(name)), declared) if claim]
    if b"%PDF-" in head[:_PDF_HEADER_WITHIN]:
        return PDF
    if _is_text(head):
        return _textual_type(head, claims)
    signed = _signed_type(head)
    if signed == ZIP:
        return _zipped_type(head, claims)
    if signed == OLE:
        return _member(claims, OLE_STORED) or OLE
    return signed or _puremagic_type(head) or _unproven(claims) or OCTET_STREAM


def check_type(content_type: str, *, name: str, forbidden: tuple[str, ...]) -> None:
    """Check that the settings do not forbid a type.

    Raises:
        ForbiddenTypeError: The type is forbidden. The message names the file and the type.
    """
    family = content_type.partition("/")[0] + "/*"
    if content_type in forbidden or family in forbidden:
        raise ForbiddenTypeError(
            f"{name!r} is of type {content_type}, which this service rejects; send another file."
        )


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 byte order marks
        try:
            return "\x00" not in head[: len(head) // 2 * 2].decode("utf-16")
        except UnicodeDecodeError:
            return False
    return len(head.translate(None, _NEVER_IN_TEXT)) == len(head)


def _textual_type(head: bytes, claims: list[str]) -> str:
    start = head[:HEAD].lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith(b"{\\rtf"):
        return TEXTUAL["rtf"]
    textual = [claim for claim in claims if _is_textual(claim)]
    for claim in textual:
        if claim != PLAIN_TEXT:
            return claim
    if not textual:
        if start.startswith((b"<!doctype html", b"<html")):
            return TEXTUAL["html"]
        if start.startswith(b"<?xml"):
            return TEXTUAL["xml"]
    return PLAIN_TEXT


def _is_textual(claim: str) -> bool:
    return (
        claim.startswith(("text/", "message/"))
        or claim in TEXTUAL.values()
        or claim.endswith(("+json", "+xml", "+yaml"))
    )


def _signed_type(head: bytes) -> str | None:
    for offset, magic, content_type in SIGNATURES:
        if head.startswith(magic, offset):
            return content_type
    return None


def _zipped_type(head: bytes, claims: list[str]) -> str:
    # The first entry of OpenDocument and EPUB archives is their type, uncompressed. Its name and
    # content follow the 30-byte entry header.
    if head.startswith(b"mimetype", 30):
        stored = head[38:].partition(b"PK")[0].decode("ascii", errors="replace")
        if stored in ZIPPED.values():
            return stored
    for mark, ending in ZIP_MARKS:
        if mark in head:
            return ZIPPED[ending]
    return _member(claims, ZIPPED) or ZIP


def _member(claims: list[str], family: dict[str, str]) -> str | None:
    return next((claim for claim in claims if claim in family.values()), None)


def _puremagic_type(head: bytes) -> str | None:
    try:
        best = puremagic.magic_string(head)[0]
    except puremagic.PureError:
        return None
    sure = best.confidence >= _PUREMAGIC_CONFIDENT and best.mime_type
    return best.mime_type.lower() if sure else None


def _unproven(claims: list[str]) -> str | None:
    return next((claim for claim in claims if not _is_textual(claim)), None)

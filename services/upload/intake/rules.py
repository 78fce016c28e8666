"""Which type a file is of, and whether this service takes it.

Three witnesses speak: the content's first bytes, the ending of the name, and the type that the
client declared. They are weighed so:

1. The demo type has no content to know it by: it is what the client declares, where demo files are
   switched on, and refused where they are not.
2. A signature in the content goes before any claim. For a container, zip or OLE, it proves only
   the family: a sign inside it, then the name, then the declared type tell which member.
3. Content that reads as text is the textual type that the name or else the declared type says; a
   claim that is not textual does not count. With neither, a page or an XML document is known by
   its first words; all else is plain text.
4. Other content is what puremagic finds, else what the name or the declared type says, unless
   that is textual; else `application/octet-stream`. Such a claim is unproven: the processor, which
   has the whole file, tells the user when a PDF is none.
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
"""Bytes at the start of a file that its type is judged by."""

_PDF_HEADER_WITHIN = 1024
"""Readers of PDF accept its header anywhere in these first bytes."""

_NEVER_IN_TEXT = bytes({*range(32)} - {*b"\t\n\r\f\b\x1b"}) + b"\x7f"

_PUREMAGIC_CONFIDENT = 0.4
"""What puremagic gives a match of four bytes; shorter ones are chance."""


def accepted_type(head: bytes, *, name: str, declared: str | None, settings: UploadSettings) -> str:
    """The type of a file, by its beginning as for `judge_type`.

    Raises:
        ForbiddenTypeError: the settings do not allow it.
    """
    content_type = judge_type(head, name=name, declared=declared, demo=settings.demo)
    check_type(content_type, name=name, forbidden=settings.forbidden_types)
    return content_type


def judge_type(head: bytes, *, name: str, declared: str | None, demo: bool) -> str:
    """The type of a file by the rule above.

    Args:
        head: its first `HEAD` bytes, or all of it if it is shorter.
        declared: the bare, lower-case media type that the client sent.
        demo: whether demo files are switched on.

    Raises:
        ForbiddenTypeError: a demo file where they are switched off.
    """
    if declared == DEMO_TYPE:
        if not demo:
            raise ForbiddenTypeError(
                "This service does not take demo files; WAYBILL_DEMO=true switches them on."
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
    """Refuse a type that the settings forbid.

    Raises:
        ForbiddenTypeError: naming the file and the type.
    """
    family = content_type.partition("/")[0] + "/*"
    if content_type in forbidden or family in forbidden:
        raise ForbiddenTypeError(
            f"{name!r} is of type {content_type}, which this service does not accept."
        )


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # byte order marks of UTF-16
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
    # OpenDocument and EPUB store their type, uncompressed, as the first entry: name and content
    # follow the 30 bytes of the entry's header.
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

"""Which values can be stored and sent: characters of texts, range of numbers, keys, moments.

MongoDB stores neither integers beyond 64 bits nor keys with a NUL, JSON knows no NaN, and UTF-8 has
no lone surrogates. Results and requests with such values are refused; texts that only advise
(messages, phases) are cleaned.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
"""The integers that MongoDB stores."""

FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
"""Times outside of these are errors of a writer. Arithmetic near the limits of `datetime` fails."""

DBREF_KEY = "$ref"
"""A mapping with this key comes back from MongoDB's driver as something else: as a reference."""

MAX_KEY = 200
"""Characters of a key of statistics: a name, not a text."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_CONTROL_BUT_BLANKS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_REPLACEMENT = "\ufffd"

_MEDIA_TYPE = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+/[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*(;[ -~]*)?")
MAX_MEDIA_TYPE = 255
"""Characters of a media type with its parameters."""

DEFAULT_MEDIA_TYPE = "application/octet-stream"


def text_fault(text: str, *, blanks: bool = True) -> str | None:
    """Say why a text cannot be kept as it is, or return None.

    Args:
        blanks: whether tab, newline and carriage return are allowed.
    """
    if text.isascii() and text.isprintable():  # as most are
        return None
    if found := _SURROGATE.search(text):
        return f"has a lone surrogate (U+{ord(found[0]):04X}) at character {found.start()}"
    if found := (_CONTROL_BUT_BLANKS if blanks else _CONTROL).search(text):
        return f"has a control character (U+{ord(found[0]):04X}) at character {found.start()}"
    return None


def unstorable_text(text: str) -> str | None:
    """Say why a text can be neither stored nor sent, or return None."""
    if "\x00" in text:
        return "has a NUL character"
    if not text.isascii() and (found := _SURROGATE.search(text)):
        return f"has a lone surrogate (U+{ord(found[0]):04X})"
    return None


def clean_text(text: str, limit: int) -> str:
    """A text that only advises, with U+FFFD in place of what cannot be kept or shown, and cut.

    Args:
        limit: characters.
    """
    return _UNFIT.sub(_REPLACEMENT, text[:limit])


def number_fault(number: float) -> str | None:
    """Say why a number cannot be kept, or return None."""
    if isinstance(number, float):
        return None if math.isfinite(number) else f"is {number}, which is no number"
    if MIN_INT <= number <= MAX_INT:
        return None
    return "is an integer of more than 64 bits"


def key_fault(key: str) -> str | None:
    """Say why MongoDB, or its driver, takes no such key, or return None."""
    if fault := unstorable_text(key):
        return fault
    return "is reserved by MongoDB" if key == DBREF_KEY else None


def checked_mapping(mapping: Mapping[str, object]) -> Mapping[str, object]:
    """Return a flat mapping that can be stored.

    Raises:
        ValueError: a key or a value cannot; the message names it.
    """
    for key, value in mapping.items():
        if fault := key_fault(key):
            raise ValueError(f"the key {key!r:.100} {fault}")
        if isinstance(value, int | float) and (fault := number_fault(value)):
            raise ValueError(f"{key!r:.100} {fault}")
    return mapping


def checked_moment(moment: datetime) -> datetime:
    """Return the moment in UTC to the millisecond, as MongoDB keeps it.

    Raises:
        ValueError: it lies outside of `FIRST_MOMENT` and `LAST_MOMENT`.
    """
    if not FIRST_MOMENT <= moment <= LAST_MOMENT:
        raise ValueError("the time lies outside of the years 1970 to 9000")
    if moment.utcoffset():
        moment = moment.astimezone(UTC)
    beyond = moment.microsecond % 1000
    return moment.replace(microsecond=moment.microsecond - beyond) if beyond else moment


def is_media_type(value: str) -> bool:
    """Whether a text can be sent as `Content-Type` (RFC 9110): one line of visible ASCII."""
    return len(value) <= MAX_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(value) is not None


def sendable_media_type(stored: str | None) -> str:
    """The value of a `Content-Type` header; what was stored and cannot be sent is of no type."""
    return stored if stored is not None and is_media_type(stored) else DEFAULT_MEDIA_TYPE

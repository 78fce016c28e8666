"""Checks of values before they are stored or sent: texts, numbers, keys and timestamps.

MongoDB stores neither integers beyond 64 bits nor keys with a NUL, JSON has no NaN, and UTF-8 has
no lone surrogates. Results and requests with such values are rejected; informational texts
(messages, phases) are cleaned.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
"""The range of integers that MongoDB stores."""

FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)
"""The range of valid times; others are errors of the writer. Arithmetic fails near the limits of
`datetime`."""

DBREF_KEY = "$ref"
"""MongoDB's driver returns a mapping with this key as a `DBRef`."""

MAX_KEY = 200
"""Maximum characters of a key in statistics."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_CONTROL_BUT_BLANKS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_REPLACEMENT = "\ufffd"

_MEDIA_TYPE = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+/[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*(;[ -~]*)?")
MAX_MEDIA_TYPE = 255
"""Maximum characters of a media type with its parameters."""

DEFAULT_MEDIA_TYPE = "application/octet-stream"


def text_fault(text: str, *, blanks: bool = True) -> str | None:
    """Return why a text cannot be stored unchanged, or None.

    Args:
        blanks: allow tab, newline and carriage return.
    """
    if text.isascii() and text.isprintable():  # Fast path for most texts.
        return None
    if found := _SURROGATE.search(text):
        return f"has a lone surrogate (U+{ord(found[0]):04X}) at character {found.start()}"
    if found := (_CONTROL_BUT_BLANKS if blanks else _CONTROL).search(text):
        return f"has a control character (U+{ord(found[0]):04X}) at character {found.start()}"
    return None


def unstorable_text(text: str) -> str | None:
    """Return why a text can be neither stored nor sent, or None."""
    if "\x00" in text:
        return "has a NUL character"
    if not text.isascii() and (found := _SURROGATE.search(text)):
        return f"has a lone surrogate (U+{ord(found[0]):04X})"
    return None


def clean_text(text: str, limit: int) -> str:
    """Truncate an informational text and replace characters that cannot be stored by U+FFFD.

    Args:
        limit: maximum characters.
    """
    return _UNFIT.sub(_REPLACEMENT, text[:limit])


def number_fault(number: float) -> str | None:
    """Return why a number cannot be stored, or None."""
    if isinstance(number, float):
        return None if math.isfinite(number) else f"is {number}, which is not a finite number"
    if MIN_INT <= number <= MAX_INT:
        return None
    return "is an integer beyond 64 bits"


def key_fault(key: str) -> str | None:
    """Return why MongoDB or its driver rejects a key, or None."""
    if fault := unstorable_text(key):
        return fault
    return "is reserved by MongoDB" if key == DBREF_KEY else None


def checked_mapping(mapping: Mapping[str, object]) -> Mapping[str, object]:
    """Return a flat mapping unchanged if it can be stored.

    Raises:
        ValueError: a key or a value cannot be stored; the message names it.
    """
    for key, value in mapping.items():
        if fault := key_fault(key):
            raise ValueError(f"the key {key!r:.100} {fault}")
        if isinstance(value, int | float) and (fault := number_fault(value)):
            raise ValueError(f"{key!r:.100} {fault}")
    return mapping


def checked_moment(moment: datetime) -> datetime:
    """Return a time in UTC with millisecond precision, as MongoDB stores it.

    Raises:
        ValueError: the time is not between `FIRST_MOMENT` and `LAST_MOMENT`.
    """
    if not FIRST_MOMENT <= moment <= LAST_MOMENT:
        raise ValueError("the time is outside the years 1970 to 9000")
    if moment.utcoffset():
        moment = moment.astimezone(UTC)
    beyond = moment.microsecond % 1000
    return moment.replace(microsecond=moment.microsecond - beyond) if beyond else moment


def is_media_type(value: str) -> bool:
    """Return True if a text can be sent as `Content-Type` (RFC 9110): one line of visible ASCII."""
    return len(value) <= MAX_MEDIA_TYPE and _MEDIA_TYPE.fullmatch(value) is not None


def sendable_media_type(stored: str | None) -> str:
    """Return a value for `Content-Type`: the stored one, or a default if it cannot be sent."""
    return stored if stored is not None and is_media_type(stored) else DEFAULT_MEDIA_TYPE

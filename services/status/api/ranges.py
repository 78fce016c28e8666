"""Conditional and partial requests (RFC 9110, 13 and 14): pure decisions over header values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.errors import PreconditionFailedError, RangeNotSatisfiableError

# No leading `\s*`: on a long run of blanks it would take quadratic time.
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)

STRONG_AFTER = timedelta(seconds=1)
"""Age above which a date is a strong validator. HTTP dates have a resolution of seconds (RFC 9110,
8.8.2.2)."""


@dataclass(frozen=True)
class Validators:
    """The validators of a representation (RFC 9110, 8.8)."""

    etag: str
    """A strong entity tag, including its quotes."""
    modified: datetime | None = None


@dataclass(frozen=True)
class ByteRange:
    """The bytes from `start` (inclusive) to `end` (exclusive)."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """Return the `Content-Range` header for content of `size` bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def names(header: str, etag: str, *, weakly: bool) -> bool:
    """Return True if a list of entity tags includes one.

    Args:
        header: `If-Match` or `If-None-Match`: tags, or `*` for any.
        weakly: True if a weak tag matches a strong one (RFC 9110, 8.8.3.2).
    """
    if header.strip() == "*":
        return True
    strong = etag.removeprefix("W/")
    is_weak = etag != strong
    return any(
        tag == strong and (weakly or not (weak or is_weak)) for weak, tag in _TAG.findall(header)
    )


def is_unmodified(headers: Mapping[str, str], known: Validators) -> bool:
    """Return True if the client's copy is current, so that the response is 304.

    Raises:
        PreconditionFailedError: the content does not match the client's precondition.
    """
    if (if_match := headers.get("if-match")) is not None:
        if not names(if_match, known.etag, weakly=False):
            raise PreconditionFailedError(
                f"The ETag is {known.etag}; `If-Match` does not include it."
            )
    elif _is_after(known.modified, _date(headers.get("if-unmodified-since"))):
        raise PreconditionFailedError("The content was modified after `If-Unmodified-Since`.")
    if (if_none_match := headers.get("if-none-match")) is not None:
        return names(if_none_match, known.etag, weakly=True)
    since = _date(headers.get("if-modified-since"))
    return not (since is None or known.modified is None or _is_after(known.modified, since))


def requested_range(
    headers: Mapping[str, str], known: Validators, *, size: int, now: datetime
) -> ByteRange | None:
    """Return the part of the content that a GET requests, or None for all of it.

    A `Range` with another unit, several ranges or invalid syntax is ignored, as RFC 9110 allows.

    Args:
        size: bytes of the complete content.

    Raises:
        RangeNotSatisfiableError: the range begins after the end of the content.
    """
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or not _still_applies(headers.get("if-range"), known, now):
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiableError(
            f"The content has {size} bytes; {headers['range'][:80]!r} is beyond its end."
        )
    return ByteRange(start, end)


def _still_applies(if_range: str | None, known: Validators, now: datetime) -> bool:
    """Return True if the content matches `If-Range`, by strong comparison."""
    if if_range is None:
        return True
    if '"' in if_range:
        return if_range.strip() == known.etag and not known.etag.startswith("W/")
    date = _date(if_range)
    if date is None or known.modified is None or now - known.modified < STRONG_AFTER:
        return False
    return date == _seconds(known.modified)


def _date(text: str | None) -> datetime | None:
    """Return the time of an HTTP date; None if it is missing or invalid."""
    if text is None:
        return None
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def _is_after(modified: datetime | None, since: datetime | None) -> bool:
    """Return True if both times are known and the first is later."""
    return modified is not None and since is not None and _seconds(modified) > since


def _seconds(moment: datetime) -> datetime:
    """Return a time in the resolution of HTTP dates."""
    return moment.replace(microsecond=0)

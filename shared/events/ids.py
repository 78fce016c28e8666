"""File ids, and the canonical spelling of UUIDs (RFC 9562, 4)."""

import re
from datetime import datetime
from secrets import randbits
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

from shared.clock import now_ns

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def canonical_id(text: str) -> str:
    """Return a UUID in lower case, and any other text unchanged.

    Other spellings of UUIDs, such as those without hyphens, are not accepted as ids.
    """
    return text.lower() if _UUID.fullmatch(text) else text


CanonicalId = Annotated[str, AfterValidator(canonical_id)]
"""Endpoint parameter: an id in its canonical spelling."""


def new_file_id() -> str:
    """Return a new UUIDv7 (RFC 9562): unique, sorted by time, and containing its creation time.

    It has the milliseconds, 4096ths of a millisecond (method 3 of the RFC) and 62 random bits. The
    package uuid6 advances the time by a millisecond per id instead: above a thousand ids per
    second, its ids lie in the future.
    """
    milliseconds, rest = divmod(now_ns(), 1_000_000)
    timed = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}"
    random = f"{1 << 63 | randbits(62):016x}"
    return f"{timed[:8]}-{timed[8:12]}-{timed[12:]}-{random[:4]}-{random[4:]}"


def file_id_age(file_id: str, now: datetime) -> float | None:
    """Return the seconds since `file_id` was created, or None if it is not a UUIDv7."""
    try:
        parsed = UUID(file_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    return now.timestamp() - (parsed.int >> 80) / 1000


def first_file_id(moment: datetime) -> str:
    """Return a lower bound of the ids created at `moment` or later; earlier ids are smaller."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}"

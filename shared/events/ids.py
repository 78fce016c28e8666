"""Ids: how those of files are made, and the one spelling of UUIDs (RFC 9562, 4)."""

import re
from datetime import datetime
from secrets import randbits
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

from shared.clock import now_ns

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def canonical_id(text: str) -> str:
    """Return a UUID in small letters, and any other text as it is.

    Other spellings of UUIDs, such as those without hyphens, name nothing here.
    """
    return text.lower() if _UUID.fullmatch(text) else text


CanonicalId = Annotated[str, AfterValidator(canonical_id)]
"""An id as an endpoint is given it."""


def new_file_id() -> str:
    """A UUIDv7 (RFC 9562): unique, sorted by time, and able to tell its age.

    Beside the milliseconds it has the 4096ths of one (method 3 of the RFC) and 62 random bits. The
    package uuid6 adds a millisecond for each id instead: beyond a thousand a second, its ids are
    soon of the future.
    """
    milliseconds, rest = divmod(now_ns(), 1_000_000)
    told = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}"
    chance = f"{1 << 63 | randbits(62):016x}"
    return f"{told[:8]}-{told[8:12]}-{told[12:]}-{chance[:4]}-{chance[4:]}"


def file_id_age(file_id: str, now: datetime) -> float | None:
    """Seconds since `file_id` was made, or None if it is not a UUIDv7."""
    try:
        parsed = UUID(file_id)
    except ValueError:
        return None
    if parsed.version != 7:
        return None
    return now.timestamp() - (parsed.int >> 80) / 1000


def first_file_id(moment: datetime) -> str:
    """Not above any id that is made at `moment` or later, and above all that were made before."""
    milliseconds = f"{max(0, int(moment.timestamp() * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}"

"""Timestamps of events and documents: in UTC, with millisecond precision."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, PlainSerializer, WithJsonSchema

from shared.clock import now_ns
from shared.events.storable import checked_moment


def utc_now() -> datetime:
    """Return the current time in UTC with millisecond precision, as stored by MongoDB."""
    return datetime.fromtimestamp(now_ns() // 1_000_000 / 1000, UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(_rfc3339, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


EventTime = Annotated[Timestamp, AfterValidator(checked_moment)]
"""A timestamp in an event, with millisecond precision and within the range that can be stored."""

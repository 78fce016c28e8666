"""Moments as events and documents have them: in UTC, to the millisecond."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, PlainSerializer, WithJsonSchema

from shared.clock import now_ns
from shared.events.storable import checked_moment


def utc_now() -> datetime:
    """The present, in UTC, to the millisecond: the precision that MongoDB keeps."""
    return datetime.fromtimestamp(now_ns() // 1_000_000 / 1000, UTC)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(_rfc3339, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


EventTime = Annotated[Timestamp, AfterValidator(checked_moment)]
"""A moment in an event: to the millisecond, and within what can be stored."""

"""Stuck files: files without an event for longer than their limits allow, and the likely reason."""

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from services.status.projection.projection import FileState, Status
from shared.events.events import EventType, Timestamp

GRACE = timedelta(seconds=60)
"""The longest time that a consumer group needs to detect a lost pod and reassign its work."""

LONG_QUEUE = timedelta(hours=1)
"""A file may wait while others are ahead of it, but after this time an operator should know."""


class StuckFile(BaseModel):
    """A file that appears to be stuck."""

    file_id: str
    name: str | None
    status: FileState
    phase: str
    silent_since: Timestamp = Field(description="When its last event occurred or was due.")
    reason: str


def stuck(
    status: Status, now: datetime, *, time_limit: float, moving: bool | None
) -> StuckFile | None:
    """Return a report of the file if it is stuck, or None.

    Args:
        time_limit: seconds that an attempt may take if its event does not state a limit.
        moving: True if any file is being processed or has just started; None if unknown.
    """
    since = max(filter(None, (status.updated_at, status.next_attempt_at)), default=None)
    if since is None or status.status.is_terminal or status.deleted_at is not None:
        return None
    silence = now - since
    reason = None
    if status.status is FileState.PROCESSING:
        time_limit = _attempt_time_limit(status) or time_limit
        if silence > timedelta(seconds=time_limit) + GRACE:
            reason = (
                f"Attempt {status.attempt} exceeded its limit of {time_limit:g} s without an "
                "outcome: its pod is gone and no other pod took over."
            )
    elif silence > GRACE and moving is False:
        reason = "No files start: no processor runs, or none can reach Kafka or the blob store."
    elif silence > LONG_QUEUE:
        reason = "The file is waiting while other files start: there are too few processors."
    if reason is None:
        return None
    return StuckFile(
        silent_since=since,
        reason=reason,
        **status.model_dump(include={"file_id", "name", "status", "phase"}),
    )


def _attempt_time_limit(status: Status) -> float | None:
    """Return the time limit of the current attempt in seconds. Plugin steps may have their own."""
    for line in reversed(status.history):
        if (line.type, line.run, line.attempt) == (
            EventType.PROCESSING,
            status.run,
            status.attempt,
        ):
            return line.time_limit
    return None

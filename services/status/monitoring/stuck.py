"""Files of which nothing has been heard for longer than their limits allow, and why that may be."""

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from services.status.projection.projection import FileState, Status
from shared.events.events import EventType, Timestamp

GRACE = timedelta(seconds=60)
"""What a group needs, at most, to notice that a pod is gone, and another one to take over."""

LONG_QUEUE = timedelta(hours=1)
"""A file may wait as long as there are others before it; beyond this somebody should know."""


class StuckFile(BaseModel):
    """A file that does not go on, as far as one can see."""

    file_id: str
    name: str | None
    status: FileState
    phase: str
    silent_since: Timestamp = Field(description="When its last event was told, or was due.")
    reason: str


def stuck(
    status: Status, now: datetime, *, time_limit: float, moving: bool | None
) -> StuckFile | None:
    """The file, if it does not go on.

    Args:
        time_limit: seconds that one attempt may take whose event does not tell it.
        moving: whether any file is worked on or was begun a moment ago; None if that is not known.
    """
    since = max(filter(None, (status.updated_at, status.next_attempt_at)), default=None)
    if since is None or status.status.is_terminal or status.deleted_at is not None:
        return None
    silence = now - since
    reason = None
    if status.status is FileState.PROCESSING:
        time_limit = _told_limit(status) or time_limit
        if silence > timedelta(seconds=time_limit) + GRACE:
            reason = (
                f"Attempt {status.attempt} may take {time_limit:g} s and neither ended nor was "
                "killed: its pod is gone and no other took over."
            )
    elif silence > GRACE and moving is False:
        reason = "Nothing is begun: no processor runs, or none can reach Kafka or the blob store."
    elif silence > LONG_QUEUE:
        reason = "It waits for its turn while other files are begun: there are too few processors."
    if reason is None:
        return None
    return StuckFile(
        silent_since=since,
        reason=reason,
        **status.model_dump(include={"file_id", "name", "status", "phase"}),
    )


def _told_limit(status: Status) -> float | None:
    """Seconds that the present attempt may take: a plugin's step may have a limit of its own."""
    for line in reversed(status.history):
        if (line.type, line.run, line.attempt) == (
            EventType.PROCESSING,
            status.run,
            status.attempt,
        ):
            return line.time_limit
    return None

"""Estimates how long a file still takes, to decide when a client should poll again."""

from datetime import datetime
from math import ceil

from services.status.monitoring.queue_stats import QueuePlace
from services.status.projection.projection import Status
from shared.events.events import EventType

SOONEST = 1
LATEST = 30
"""Seconds between two polls, at least and at most. A client never learns of an outcome more than
half a minute late."""

SHARE_LEFT = 0.5
"""Fraction of the expected remaining time, if it is known. A dozen polls follow an hour's work
closely to its end."""

SHARE_GONE = 0.1
"""Fraction of the elapsed time, if the remaining time is unknown. A client then learns of an
outcome at most a tenth late."""


def seconds_left(status: Status, now: datetime) -> float | None:
    """Return the seconds until the next expected change of a file; None if unknown.

    A file that waits for its next attempt does not change until then. Reported progress is assumed
    to continue at the speed of the current attempt.
    """
    if status.status.is_terminal:
        return 0.0
    if status.next_attempt_at is not None:
        return max(0.0, (status.next_attempt_at - now).total_seconds())
    begun = _attempt_begun(status)
    if status.progress is None or status.progress.done <= 0 or begun is None:
        return None
    gone = max(0.0, (now - begun).total_seconds())
    return gone * max(0, status.progress.total - status.progress.done) / status.progress.done


def poll_after(status: Status, now: datetime, place: QueuePlace | None = None) -> int:
    """Return the whole seconds after which polling an unfinished file again is useful.

    Args:
        place: the file's place in the queue, if it is queued and the place is known.
    """
    left = place.expected_seconds if place else seconds_left(status, now)
    if left is None:
        since = status.started_at or status.updated_at or now
        seconds = SHARE_GONE * (now - since).total_seconds()
    elif status.next_attempt_at is not None:
        seconds = left
    else:
        seconds = SHARE_LEFT * left
    return min(LATEST, max(SOONEST, ceil(seconds)))


def _attempt_begun(status: Status) -> datetime | None:
    """Return when the current attempt began; None if unknown."""
    for line in reversed(status.history):
        if line.type is EventType.PROCESSING:
            return line.time if (line.run, line.attempt) == (status.run, status.attempt) else None
    return None

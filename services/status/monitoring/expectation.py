"""How long a file may still take, from what is known of it: decides when to ask again."""

from datetime import datetime
from math import ceil

from services.status.monitoring.queue_stats import QueuePlace
from services.status.projection.projection import Status
from shared.events.events import EventType

SOONEST = 1
LATEST = 30
"""Seconds between two polls, at least and at most: nobody learns of an end half a minute late."""

SHARE_LEFT = 0.5
"""Of the expected rest, when it is known: a dozen polls come near the end of an hour's work."""

SHARE_GONE = 0.1
"""Of the time gone by, when nothing is known of the rest: an end is then told a tenth late."""


def seconds_left(status: Status, now: datetime) -> float | None:
    """Seconds until something is to be expected of a file; None if nothing tells.

    A file that waits for its next attempt will be quiet until that is due; one that tells its
    progress goes on at the speed of the present attempt.
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
    """Whole seconds after which it is worth asking for a file that is under way.

    Args:
        place: where it stands in the queue, if it does and that is known.
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
    """When the present attempt began."""
    for line in reversed(status.history):
        if line.type is EventType.PROCESSING:
            return line.time if (line.run, line.attempt) == (status.run, status.attempt) else None
    return None

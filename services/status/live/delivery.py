"""Deliver updates to subscribers. An error of one is logged and counted, and affects no other."""

from collections.abc import Iterable, Mapping, Sequence

from services.status.live.overlay import Observed
from services.status.live.subscription import Subscription
from services.status.live.update import Batches, Update
from shared.kafka.consuming import note_error

CONSUMER = "fan-out"
"""Name of the fan-out in logs and metrics."""

MAX_NAMED = 5
"""Files named in the log line of a failed subscriber."""


def deliver_each(
    wanted: Mapping[Subscription, Sequence[Update]], batches: Batches, now: float
) -> int:
    """Deliver updates to each subscriber; return how many were written immediately.

    A subscriber that fails is disconnected. It reconnects with its cursor and misses nothing.

    Args:
        wanted: the updates of each subscriber, in order.
        batches: the batches that subscribers of the same updates share.
        now: monotonic seconds.
    """
    written = 0
    for subscription, updates in wanted.items():
        try:
            written += subscription.deliver(tuple(updates), batches, now)
        except Exception as error:
            files = ", ".join(each.status.file_id for each in updates[:MAX_NAMED])
            note_error(CONSUMER, error, f"a subscriber to {files}, now disconnected")
            subscription.disconnect()
    return written


def send_heartbeats(subscriptions: Iterable[Subscription], batches: Batches) -> None:
    """Send a heartbeat to each subscriber."""
    for subscription in subscriptions:
        try:
            subscription.send_heartbeat(batches)
        except Exception as error:
            note_error(CONSUMER, error, "the heartbeat of a subscriber, now disconnected")
            subscription.disconnect()


def log_unfoldable(observed: Observed, error: Exception) -> None:
    """Log an event that cannot be folded; the projector dead-letters its record."""
    event = observed.event
    where = f"{event.type} of {event.file_id} at {observed.number}@{observed.offset}"
    note_error(CONSUMER, error, where)

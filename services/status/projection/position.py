"""Positions order the events of a file, regardless of when they arrive."""

from typing import NamedTuple

from shared.events.events import EventType, FileDeleted, LifecycleEvent, Rank


class Position(NamedTuple):
    """Position of an event among the events of its file. The event with the greatest one leads."""

    run: int
    terminal: bool
    attempt: int
    rank: Rank
    seq: int
    before: int
    """The negated offset: of two otherwise equal events, the first in the log leads."""


NOWHERE = Position(-2, False, 0, Rank.QUEUED, 0, 0)
"""A position before every event."""


def as_integers(position: Position) -> list[int]:
    """Return the position as MongoDB stores it."""
    return [+part for part in position]  # `+part` gives a plain number, faster than `int`.


def without_offset(position: Position) -> list[int]:
    """Return the position as clients receive it. It has no offset, which counts all owners' events.

    Of two events that differ only in the offset the first leads, so no client misses a state.
    """
    return [*as_integers(position)[:-1], 0]


RANK = {
    EventType.UPLOADED: Rank.QUEUED,
    EventType.REQUEUED: Rank.QUEUED,
    EventType.PROCESSING: Rank.PROCESSING,
    EventType.PROGRESSED: Rank.PROGRESSED,
    EventType.RETRYING: Rank.RETRYING,
    EventType.COMPLETED: Rank.TERMINAL,
    EventType.FAILED: Rank.TERMINAL,
    EventType.CANCELLED: Rank.TERMINAL,
    EventType.DELETED: Rank.TERMINAL,
}
"""Rank of each event within an attempt. A request to cancel has none."""

# These are sets because a lookup is faster than matching classes, and happens for every event.
_ENDS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})
_SILENT = frozenset({EventType.DELETED, EventType.CANCEL_REQUESTED})
"""Events that say nothing about the processing."""


def position_of(event: LifecycleEvent, offset: int) -> Position:
    """Return the position of an event among the events of its file."""
    if event.type in _SILENT:
        # They never lead if the file has any other event.
        if isinstance(event, FileDeleted):
            return Position(0, False, 0, Rank.QUEUED, 0, -offset)
        return Position(-1, False, 0, Rank.QUEUED, 0, 0)
    rank, fields = RANK[event.type], vars(event.data)
    if event.type in _ENDS:
        return Position(fields["run"], True, 0, rank, 0, -offset)
    return Position(
        fields["run"], False, fields.get("attempt", 0), rank, fields.get("seq", 0), -offset
    )

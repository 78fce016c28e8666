"""Where an event stands among the events of its file, whatever comes when."""

from typing import NamedTuple

from shared.events.events import EventType, FileDeleted, LifecycleEvent, Rank


class Position(NamedTuple):
    """Where an event stands among the events of its file; the greatest one leads."""

    run: int
    terminal: bool
    attempt: int
    rank: Rank
    seq: int
    before: int
    """The negated offset: of two events alike, the first in the log leads."""


NOWHERE = Position(-2, False, 0, Rank.QUEUED, 0, 0)
"""Before every event."""


def as_integers(position: Position) -> list[int]:
    """The position as MongoDB and JSON have it."""
    return [+part for part in position]  # A plain number of each, sooner than `int` does.


def without_offset(position: Position) -> list[int]:
    """The position as clients have it: without the offset, which counts the events of all owners.

    Of two events that differ in nothing else the first leads, so no client misses a state.
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
"""Where in an attempt an event stands; a request to cancel stands nowhere."""

# Of which kind an event is, is asked of each of them, and a set knows sooner than a row of classes.
_ENDS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})
_SILENT = frozenset({EventType.DELETED, EventType.CANCEL_REQUESTED})
"""Say nothing of the work."""


def position_of(event: LifecycleEvent, offset: int) -> Position:
    """Where an event stands among the events of its file."""
    if event.type in _SILENT:
        # Of a file that has any other event they never lead.
        if isinstance(event, FileDeleted):
            return Position(0, False, 0, Rank.QUEUED, 0, -offset)
        return Position(-1, False, 0, Rank.QUEUED, 0, 0)
    rank, fields = RANK[event.type], vars(event.data)
    if event.type in _ENDS:
        return Position(fields["run"], True, 0, rank, 0, -offset)
    return Position(
        fields["run"], False, fields.get("attempt", 0), rank, fields.get("seq", 0), -offset
    )

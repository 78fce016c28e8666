"""The history of a file: one line for nearly every event, and the durations between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.status.projection.position import RANK, Position
from services.status.projection.shares import SHARING
from shared.events.events import EventType, Rank, StatusEvent, Timestamp
from shared.events.facts import Failure

MAX_HISTORY = 100
"""Lines of history in one document; the latest are kept. 100 lines are ~20 kB, far below MongoDB's
16 MB."""

_ENDS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED})
_OF_ATTEMPTS = _ENDS | {EventType.PROCESSING, EventType.RETRYING}

_UNRECORDED = frozenset({EventType.PROGRESSED, EventType.CANCEL_REQUESTED, *SHARING})
"""Events that leave no line."""


@dataclass
class HistoryEntry:
    """One line of a file's history. Progress leaves none.

    Treat instances as immutable. The class is neither frozen nor a model, because one is created
    for nearly every event and that would take three times as long.
    """

    id: str
    type: EventType
    time: Timestamp
    run: int
    attempt: int | None = None
    pod: str | None = None
    code: str | None = None
    message: str | None = None
    next_attempt_at: Timestamp | None = None
    offset: int | None = None
    """Offset of the event in its partition; None in documents of earlier versions."""
    time_limit: float | None = None
    """Seconds that the attempt may take, on the line of its beginning; None where it is unknown."""

    superseded: bool = False
    """True if the run had already ended: the event came from an attempt that was considered lost,
    and it changed nothing."""

    @property
    def order(self) -> tuple[int, int, int, int, datetime, str]:
        """Sort key: lines are ordered by what happened, not by the clocks of different machines.

        Within a run, attempts come first, then its end, then the events of superseded attempts.
        """
        stage, place = 0, self.attempt or 0
        if self.type is EventType.DELETED:
            stage = 3
        elif self.superseded:
            stage, place = 2, self.offset or 0
        elif self.type in _ENDS:
            stage = 1
        return (self.run, stage, place, RANK[self.type], self.time, self.pod or "")

    @property
    def position(self) -> Position:
        """The position of the line's event."""
        before = -(self.offset or 0)
        if self.type is EventType.DELETED:
            return Position(0, False, 0, Rank.QUEUED, 0, before)
        rank = RANK[self.type]
        if rank is Rank.TERMINAL:
            return Position(self.run, True, 0, rank, 0, before)
        return Position(self.run, False, self.attempt or 0, rank, 0, before)


def with_events(
    history: tuple[HistoryEntry, ...], events: Sequence[tuple[StatusEvent, int]]
) -> tuple[HistoryEntry, ...]:
    """Return the history with the lines of more events; *the same object* if they leave none."""
    lines = [_line(event, offset) for event, offset in events if event.type not in _UNRECORDED]
    return _with_lines(history, lines) if lines else history


def _line(event: StatusEvent, offset: int) -> HistoryEntry:
    fields = vars(event.data)
    error: Failure | None = fields.get("error")
    return HistoryEntry(
        id=event.id,
        type=event.type,
        time=event.time,
        run=fields["run"],
        attempt=fields.get("attempt"),
        pod=fields.get("pod"),
        code=error.code if error else None,
        message=error.message if error else fields.get("reason"),
        next_attempt_at=fields.get("next_attempt_at"),
        offset=offset,
        time_limit=fields.get("time_limit"),
    )


def _with_lines(
    history: tuple[HistoryEntry, ...], lines: Sequence[HistoryEntry]
) -> tuple[HistoryEntry, ...]:
    """Return the history with more lines; of two lines with one id keep the first in the log."""
    entries = {entry.id: entry for entry in history}
    last, in_order = history[-1].order if history else None, True
    for line in lines:
        if (known := entries.get(line.id)) is not None:
            if (known.offset or 0) <= (line.offset or 0):
                continue
            del entries[line.id]
        entries[line.id] = line
        order = line.order
        in_order = in_order and (last is None or last <= order)
        last = order
    longer = list(entries.values())
    if _mark_superseded(longer) or not in_order:
        longer.sort(key=lambda entry: entry.order)
    return tuple(longer[-MAX_HISTORY:])


def is_end(line: HistoryEntry, run: int) -> bool:
    """Return True if the line is the end of the run."""
    return line.type in _ENDS and line.run == run and not line.superseded


def _mark_superseded(lines: list[HistoryEntry]) -> bool:
    """Mark events of attempts that follow the end of their run; return True if any were marked.

    The first end in the log is the end of its run.
    """
    ends: dict[int, int] = {}
    for line in lines:
        if line.type in _ENDS:
            offset = line.offset or 0
            ends[line.run] = min(offset, ends.get(line.run, offset))
    marked = False
    for place, line in enumerate(lines if ends else ()):
        end = ends.get(line.run)
        if end is None or line.superseded or line.type not in _OF_ATTEMPTS:
            continue
        if (line.offset or 0) > end:
            lines[place] = replace(line, superseded=True)
            marked = True
    return marked


@dataclass
class HistoryLine(HistoryEntry):
    """One line of a file's history, with durations."""

    waited_seconds: float | None = None
    """Seconds that an attempt waited after it could have begun, on the line of its beginning."""
    took_seconds: float | None = None
    """Seconds that an attempt took, on the line of its end."""


def with_durations(history: Sequence[HistoryEntry]) -> Iterator[HistoryLine]:
    """Yield the lines with their durations, and with times that never decrease.

    Where the clocks of two machines disagree, durations are 0 rather than negative.
    """
    latest: datetime | None = None
    begun: dict[tuple[int, int | None], datetime] = {}
    ready: datetime | None = None
    for entry in history:
        attempt = (entry.run, entry.attempt)
        waited, took = None, None
        if entry.type is EventType.PROCESSING:
            waited, begun[attempt] = _between(ready, entry.time), entry.time
        elif entry.attempt is not None:
            took = _between(begun.get(attempt), entry.time)
        ready = entry.next_attempt_at or entry.time
        latest = max(latest or entry.time, entry.time)
        shown = vars(entry) | {"time": latest}
        yield HistoryLine(**shown, waited_seconds=waited, took_seconds=took)


def _between(earlier: datetime | None, later: datetime) -> float | None:
    return None if earlier is None else max(0.0, (later - earlier).total_seconds())

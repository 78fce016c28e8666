"""The history of a file with durations: how long each attempt waited for its turn and took."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.status.projection import HistoryEntry
from shared.events import EventType


@dataclass
class HistoryLine(HistoryEntry):
    """One line of a file's history, with the time that led to it."""

    waited_seconds: float | None = None
    """Of the beginning of an attempt: since it could have begun."""
    took_seconds: float | None = None
    """Of the end of an attempt: since it began."""


def with_durations(history: Sequence[HistoryEntry]) -> Iterator[HistoryLine]:
    """The lines with their durations; where clocks of two machines disagree, nothing takes long."""
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
        yield HistoryLine(**vars(entry), waited_seconds=waited, took_seconds=took)


def _between(earlier: datetime | None, later: datetime) -> float | None:
    return None if earlier is None else max(0.0, (later - earlier).total_seconds())

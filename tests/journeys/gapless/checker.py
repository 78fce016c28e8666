"""Judges what observers saw by what the log says: evidence goes in, problems come out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from services.status.live.filter import Filter
from services.status.projection.projection import Status, apply
from shared.events.events import StatusEvent

Position = tuple[int, ...]

PROGRESSED = 2
"""The rank of a state that is progress, in the fourth place of a position."""


class Seen(NamedTuple):
    """A state that an observer was told."""

    file_id: str
    position: Position
    status: str
    connection: int
    """The how-manieth connection of the observer it came over."""
    document: int = 0
    """Hash of all that was told. An event that does not lead may yet add a fact to the state that
    is told, such as when the file's first attempt began; then the state is told once more."""


@dataclass
class Observation:
    """What one observer wanted and was told, in order."""

    name: str
    wanted: Filter
    seen: list[Seen] = field(default_factory=list)
    from_the_start: bool = True
    """Whether it was there before the first event."""
    resets: int = 0
    first_cursor: int = 1
    """The connection over which the first cursor came: what is told before is no promise."""
    heard_at: list[datetime] = field(default_factory=list)
    """When each of `seen` was told."""


@dataclass(frozen=True)
class Problem:
    """A promise that was broken."""

    kind: str
    observer: str
    file_id: str
    detail: str


Truth = Mapping[str, Sequence[Status]]
"""The lifecycle states of each file, in order."""


def place(status: Status) -> Position:
    """The position of a state as observers are told it."""
    return (*(int(part) for part in status.position[:-1]), 0)  # As clients are told it.


def is_progress(position: Position) -> bool:
    return position[3] == PROGRESSED


def lifecycle_states(events: Iterable[tuple[StatusEvent, int]]) -> list[Status]:
    """The states of a file that observers must be told, by its events in order, each at its offset.

    Progress is no lifecycle state, and an event that does not lead makes none.
    """
    states: list[Status] = []
    status: Status | None = None
    for event, offset in events:
        before, status = status, apply(status, event, offset)
        leads = before is None or status.position != before.position
        if leads and not is_progress(place(status)):
            states.append(status)
    return states


def check(truth: Truth, observations: Iterable[Observation]) -> list[Problem]:
    """Every gap, step back and repeat; an answer that is in no log; and every reset."""
    problems: list[Problem] = []
    for observation in observations:
        problems += _repeats(observation)
        problems += _steps_back(observation)
        problems += _gaps(truth, observation)
        problems += [
            Problem("reset", observation.name, "", "was told to begin anew")
            for _ in range(observation.resets)
        ]
    return problems


def _repeats(observation: Observation) -> Iterator[Problem]:
    """A document comes once over one connection, and again only where one broke."""
    counts = Counter(observation.seen)
    for seen, times in counts.items():
        if times > 1:
            yield Problem("repeat", observation.name, seen.file_id, f"{seen} came {times} times")


def _first_time(observation: Observation) -> dict[str, list[Seen]]:
    """What is left after de-duplication by file and position, by file and in order."""
    known: set[tuple[str, Position, str]] = set()
    by_file: dict[str, list[Seen]] = {}
    for seen in observation.seen:
        key = (seen.file_id, seen.position, seen.status)
        if key not in known:
            known.add(key)
            by_file.setdefault(seen.file_id, []).append(seen)
    return by_file


def _steps_back(observation: Observation) -> Iterator[Problem]:
    for file_id, seen in _first_time(observation).items():
        for before, after in pairwise(seen):
            if after.position < before.position:
                yield Problem("step back", observation.name, file_id, f"{before} then {after}")


def _gaps(truth: Truth, observation: Observation) -> Iterator[Problem]:
    promised = [each for each in observation.seen if each.connection >= observation.first_cursor]
    by_file = _first_time(replace(observation, seen=promised))
    for file_id, states in truth.items():
        wanted = [state for state in states if observation.wanted.matches(state)]
        if not wanted and file_id not in by_file:
            continue
        expected = [(place(state), str(state.status)) for state in wanted]
        told = [
            (seen.position, seen.status)
            for seen in by_file.pop(file_id, [])
            if not is_progress(seen.position)
        ]
        invented = [state for state in told if state not in expected]
        if invented:
            yield Problem("invented", observation.name, file_id, f"{invented} is not in the log")
        since = 0
        if not observation.from_the_start:
            since = expected.index(told[0]) if told and told[0] in expected else len(expected) - 1
        missing = [state for state in expected[max(0, since) :] if state not in told]
        if missing:
            yield Problem("gap", observation.name, file_id, f"{missing} of {expected}, saw {told}")
    for file_id in by_file:
        yield Problem("invented", observation.name, file_id, "is not in the log")

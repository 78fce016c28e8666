"""Promises about updates over SSE and WebSocket, checked on evidence alone."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from services.status.projection.projection import FileState, Status
from shared.events.events import StatusEvent
from tests.chaos.evidence import Evidence, Problem
from tests.chaos.faults import BROKER_FAULTS, Kind
from tests.journeys.gapless.checker import Observation, check, lifecycle_states, place

BOUND = timedelta(seconds=20)
"""Limit within which a watcher must receive the end of a file while MongoDB is down. It is a tenth
of that outage, and ample even on a busy machine."""

AFTER_KAFKA = timedelta(seconds=30)
"""How long after Kafka's return updates from the outage may still be delayed."""


def states_told_wrong(evidence: Evidence) -> Iterator[Problem]:
    """Watchers receive every state, in order, none missing, and none twice on one connection."""
    truth = {file_id: _states(evidence, file_id) for file_id in evidence.accepted}
    for problem in check(truth, evidence.observations):
        yield Problem(
            f"{problem.kind}, {problem.observer}: {problem.detail}", problem.file_id or None
        )


def late_states(evidence: Evidence) -> Iterator[Problem]:
    """While MongoDB is down, watchers receive the end of a file within a limit."""
    for observation, file_id, appended, heard in _ends_without_mongodb(evidence):
        if heard is None or heard > appended + BOUND:
            when = f"{heard:%H:%M:%S.%f}" if heard else "never"
            yield Problem(
                f"ended at {appended:%H:%M:%S.%f} without MongoDB, {observation.name} heard {when}",
                file_id,
            )


def ends_without_mongodb(evidence: Evidence) -> int:
    """Return the number of ends that `late_states` judges."""
    return len(list(_ends_without_mongodb(evidence)))


def ends_received(evidence: Evidence) -> int:
    """Return the number of ends of files that watchers received."""
    return sum(
        FileState(seen.status).is_terminal
        for observation in evidence.observations
        for seen in observation.seen
    )


def _ends_without_mongodb(
    evidence: Evidence,
) -> Iterator[tuple[Observation, str, datetime, datetime | None]]:
    """Yield each end of a file appended while MongoDB was down, and when watchers received it."""
    windows = [
        (hit.begin, hit.end - BOUND) for hit in evidence.hits if hit.kind is Kind.STOP_MONGODB
    ]
    silences = [
        (hit.begin - BOUND, hit.end + AFTER_KAFKA)
        for hit in evidence.hits
        if hit.kind in BROKER_FAULTS
    ]
    heard = [_first_heard(each) for each in evidence.observations]
    for file_id in evidence.accepted:
        end = _end(evidence, file_id)
        if end is None:
            continue
        status, appended = end
        if not _within(appended, windows) or _within(appended, silences):
            continue
        for observation, times in zip(evidence.observations, heard, strict=True):
            if observation.wanted.matches(status):
                yield (
                    observation,
                    file_id,
                    appended,
                    times.get((file_id, place(status), str(status.status))),
                )


def _first_heard(observation: Observation) -> dict[tuple[str, tuple[int, ...], str], datetime]:
    heard: dict[tuple[str, tuple[int, ...], str], datetime] = {}
    for seen, moment in zip(observation.seen, observation.heard_at, strict=False):
        heard.setdefault((seen.file_id, seen.position, seen.status), moment)
    return heard


def _end(evidence: Evidence, file_id: str) -> tuple[Status, datetime] | None:
    """Return a file's terminal state and the time at which its event was appended."""
    history = evidence.histories.get(file_id, ())
    ends = [state for state in _states(evidence, file_id) if state.status.is_terminal]
    kinds = [f"file.{state.status}" for state in ends[:1]]
    for logged in history:
        if kinds and logged.event.type.value == kinds[0]:
            return ends[0], logged.time
    return None


def _states(evidence: Evidence, file_id: str) -> list[Status]:
    return lifecycle_states(
        (each.event, each.offset)
        for each in evidence.histories.get(file_id, ())
        if isinstance(each.event, StatusEvent)
    )


def _within(moment: datetime, spans: list[tuple[datetime, datetime]]) -> bool:
    return any(begin <= moment <= end for begin, end in spans)

"""Attempts beyond the plan, and whether a fault explains them: pure functions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from services.processor.verdict import UNCOUNTED
from services.status.projection.projection import Status
from shared.events.events import FileProcessing, FileRetrying, ProcessingData
from tests.chaos.evidence import Evidence, Logged
from tests.chaos.faults import BROKER_FAULTS, DISK_FAULTS, POD_FAULTS, Hit, Kind
from tests.chaos.plan import MAX_ATTEMPTS, PlannedFile

LOST = "The processor of this file crashed"
"""Start of the message for an attempt whose pod is gone."""


OF_THE_MACHINE = UNCOUNTED | {"machine_failed"}
"""Codes of attempts that failed because of a full disk."""


@dataclass(frozen=True)
class Extra:
    """An attempt beyond the plan."""

    attempt: int
    pod: str
    why: str
    explained: bool


def extra_attempts(evidence: Evidence, file_id: str, planned: PlannedFile) -> Iterator[Extra]:
    """Yield the attempts at a file that its plan does not explain."""
    history = evidence.histories.get(file_id, ())
    begun: dict[int, list[Logged]] = defaultdict(list)
    for logged in history:
        event = logged.event
        if not isinstance(event, FileProcessing):
            continue
        attempt, pod = event.data.attempt, event.data.pod
        before = begun[attempt - 1]
        cause = _retry_before(history, attempt)
        given_back = event.data.max_attempts > min(
            (_begin(each).max_attempts for each in before), default=MAX_ATTEMPTS
        )
        why, hits, earlier = "", list[Hit](), before
        if begun[attempt]:
            # A pod published the end of an attempt and was hit before its commit; or it resumed.
            why = "made twice"
            if all(begun[each] for each in range(1, attempt)):
                earlier = [*chain(*begun.values())]
            # Otherwise a pod was hit before it could publish the start of an attempt.
            hits = _hits_of(evidence, earlier or None, *POD_FAULTS, Kind.END)
        elif cause is not None and cause.data.error.message.startswith(LOST):
            # A pod may die before it publishes an attempt; then it is unknown which pod it was.
            why = "cut off"
            hits = _hits_of(evidence, before or None, Kind.KILL, Kind.PAUSE, Kind.END)
        elif cause is not None and cause.data.error.code in OF_THE_MACHINE:
            why = f"after {cause.data.error.code}"
            hits = _hits_of(evidence, None, *DISK_FAULTS)
        elif cause is not None and cause.data.error.code not in planned.codes:
            why = f"after {cause.data.error.code}"
            hits = _hits_of(evidence, before, Kind.PAUSE)
        elif cause is None and attempt > 1:
            # Any rebalance may move a partition, even from a pod that was not hit.
            why = "given back" if given_back else "without a cause"
            hits = _hits_of(evidence, None, *Kind) if given_back else []
        if why:
            since = min((each.time for each in earlier), default=history[0].time)
            explained = any(hit.explains(since, logged.time) for hit in hits)
            yield Extra(attempt, pod, why, explained)
        begun[attempt].append(logged)


def last_attempt_was_interrupted(evidence: Evidence, file_id: str, status: Status) -> bool:
    """Return True if a fault interrupted a file's last attempt; it would have failed anyway."""
    if status.error is None or not status.error.message.startswith(LOST):
        return False
    history = evidence.histories.get(file_id, ())
    last = [
        each
        for each in history
        if isinstance(each.event, FileProcessing) and _begin(each).attempt == status.attempt
    ]
    hits = _hits_of(evidence, last or None, Kind.KILL, Kind.PAUSE)
    since = min((each.time for each in last), default=history[0].time)
    return any(hit.explains(since, history[-1].time) for hit in hits)


def _begin(logged: Logged) -> ProcessingData:
    assert isinstance(logged.event, FileProcessing)
    return logged.event.data


def _retry_before(history: Sequence[Logged], attempt: int) -> FileRetrying | None:
    """Return the event for the failure of the attempt before this one."""
    for event, _, _ in history:
        if isinstance(event, FileRetrying) and event.data.attempt == attempt - 1:
            return event
    return None


def _hits_of(evidence: Evidence, attempts: Iterable[Logged] | None, *kinds: Kind) -> list[Hit]:
    """Return the faults of these kinds that hit a pod of these attempts; None for any pod.

    Faults of the broker hit every pod.
    """
    pods = None if attempts is None else {_begin(each).pod for each in attempts}
    return [
        hit
        for hit in evidence.hits
        if hit.kind in BROKER_FAULTS or (hit.kind in kinds and (pods is None or hit.pod in pods))
    ]

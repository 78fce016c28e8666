"""Whether a run kept the promises: pure functions over its evidence, one a promise."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from services.status.projection import State, Status, apply
from shared.events import (
    FileCancelled,
    FileCompleted,
    FileFailed,
    FileProcessing,
    FileRetrying,
    StatusEvent,
)
from tests.chaos.evidence import Evidence, Logged
from tests.chaos.faults import BROKER_FAULTS, POD_FAULTS, Hit, Kind
from tests.chaos.plan import MAX_ATTEMPTS, PlannedFile

Outcome = FileCompleted | FileFailed | FileCancelled

LOST = "The processor that worked on this file died"
"""How the message begins that tells of an attempt whose pod is gone."""

MAX_LOG = 4 << 20
"""Bytes; in a run of 2,000 files some hundred thousand are usual, with each failure in a line."""


@dataclass(frozen=True)
class Problem:
    """A promise that was broken."""

    what: str
    file_id: str | None = None


def unfinished_files(evidence: Evidence) -> Iterator[Problem]:
    """Every accepted file is terminal."""
    for file_id in evidence.accepted:
        status = evidence.statuses.get(file_id)
        if status is None or not status.status.is_terminal:
            yield Problem(f"is {status.status if status else 'unknown'}", file_id)


def unplanned_outcomes(evidence: Evidence) -> Iterator[Problem]:
    """Every file ends as planned, for the reason planned; so the counts match."""
    for file_id, planned in evidence.accepted.items():
        status = evidence.statuses.get(file_id)
        if status is None or not status.status.is_terminal:
            continue  # Told by `unfinished_files`.
        code = status.error.code if status.error else None
        if status.status is State.FAILED is planned.status and _last_attempt_was_cut_off(
            evidence, file_id, status
        ):
            continue
        if status.status is not planned.status or (code is not None and code not in planned.codes):
            yield Problem(f"ended as {status.status} ({code}), not as {planned.status}", file_id)


def ambiguous_outcomes(evidence: Evidence) -> Iterator[Problem]:
    """There is one effective terminal state: the first in the log, which is what MongoDB says."""
    for file_id in evidence.accepted:
        outcomes = [each.event for each in _history(evidence, file_id) if _is_outcome(each)]
        status = evidence.statuses.get(file_id)
        if not outcomes or status is None:
            continue  # Told by `unfinished_files`.
        if outcomes[0].type != f"file.{status.status}":
            yield Problem(f"the log says {outcomes[0].type}, MongoDB {status.status}", file_id)


def outcomes_that_moved(evidence: Evidence) -> Iterator[Problem]:
    """No event moves a file out of its terminal state."""
    for file_id in evidence.accepted:
        status: Status | None = None
        for event, offset in _history(evidence, file_id):
            if not isinstance(event, StatusEvent):
                continue
            before, status = status, apply(status, event, offset)
            if before is None or not before.status.is_terminal:
                continue
            if (before.status, before.result, before.error) != (
                status.status,
                status.result,
                status.error,
            ):
                yield Problem(f"{event.id} moved it from {before.status}", file_id)


def unexplained_attempts(evidence: Evidence) -> Iterator[Problem]:
    """Every attempt beyond the plan comes from a fault that hit the pod that had the file."""
    for file_id, planned in evidence.accepted.items():
        for extra in extra_attempts(evidence, file_id, planned):
            if not extra.explained:
                yield Problem(f"attempt {extra.attempt} on {extra.pod}: {extra.why}", file_id)


def lost_letters(evidence: Evidence) -> Iterator[Problem]:
    """Every record that could not be read is kept among the dead letters, by the processor."""
    kept = {
        (letter.data.topic, letter.data.partition, letter.data.offset)
        for letter in evidence.letters
        if letter.source == "/processor"
    }
    for origin in evidence.unreadable:
        if tuple(origin) not in kept:
            yield Problem(f"no dead letter of {origin}")


def records_left_over(evidence: Evidence) -> Iterator[Problem]:
    """The group `processor` has finished all its records."""
    if evidence.lag:
        yield Problem(f"the group processor lags by {evidence.lag} records")


def fallen_services(evidence: Evidence) -> Iterator[Problem]:
    """No service ends by itself."""
    for fallen in evidence.fallen:
        yield Problem(fallen)


def endless_logs(evidence: Evidence) -> Iterator[Problem]:
    """No service floods its log, not even while Kafka or MongoDB is away."""
    for name, size in evidence.logs.items():
        if size > MAX_LOG:
            yield Problem(f"{name} wrote {size >> 20} MiB into its log")


def drifted_files(evidence: Evidence) -> Iterator[Problem]:
    """A replay of the log gives what MongoDB has."""
    if evidence.drift:
        yield Problem(evidence.drift)


PROMISES: tuple[Callable[[Evidence], Iterator[Problem]], ...] = (
    unfinished_files,
    unplanned_outcomes,
    ambiguous_outcomes,
    outcomes_that_moved,
    unexplained_attempts,
    lost_letters,
    records_left_over,
    fallen_services,
    endless_logs,
    drifted_files,
)


@dataclass(frozen=True)
class Extra:
    """An attempt that the plan does not know."""

    attempt: int
    pod: str
    why: str
    explained: bool


def extra_attempts(evidence: Evidence, file_id: str, planned: PlannedFile) -> Iterator[Extra]:
    """The attempts at a file that were made because of something else than its plan."""
    history = _history(evidence, file_id)
    begun: dict[int, list[FileProcessing]] = defaultdict(list)
    for event, _ in history:
        if not isinstance(event, FileProcessing):
            continue
        attempt, pod = event.data.attempt, event.data.pod
        before = begun[attempt - 1]
        cause = _retry_before(history, attempt)
        given_back = event.data.max_attempts > min(
            (each.data.max_attempts for each in before), default=MAX_ATTEMPTS
        )
        why, hits, earlier = "", list[Hit](), before
        if begun[attempt]:
            # A pod told of an attempt's end and was hit before it could commit that; or it woke up.
            why = "made twice"
            if all(begun[each] for each in range(1, attempt)):
                earlier = [*chain(*begun.values())]
            # Else there is a pod that did not even come to tell that it began one.
            hits = _hits_of(evidence, earlier or None, *POD_FAULTS)
        elif cause is not None and cause.data.error.message.startswith(LOST):
            # A pod may die before it tells of an attempt; nobody knows then which one it was.
            why = "cut off"
            hits = _hits_of(evidence, before or None, Kind.KILL, Kind.PAUSE)
        elif cause is not None and cause.data.error.code not in planned.codes:
            why = f"after {cause.data.error.code}"
            hits = _hits_of(evidence, before, Kind.PAUSE)
        elif cause is None and attempt > 1:
            # Any change of the group may move a partition, also from a pod that nothing hit.
            why = "given back" if given_back else "without a cause"
            hits = _hits_of(evidence, None, *Kind) if given_back else []
        if why:
            since = min((each.time for each in earlier), default=history[0].event.time)
            explained = any(hit.explains(since, event.time) for hit in hits)
            yield Extra(attempt, pod, why, explained)
        begun[attempt].append(event)


def _last_attempt_was_cut_off(evidence: Evidence, file_id: str, status: Status) -> bool:
    """Whether a fault took the last attempt that a file had; it would have failed anyway."""
    if status.error is None or not status.error.message.startswith(LOST):
        return False
    history = _history(evidence, file_id)
    pods = [event for event, _ in history if isinstance(event, FileProcessing)]
    last = [event for event in pods if event.data.attempt == status.attempt]
    hits = _hits_of(evidence, last or None, Kind.KILL, Kind.PAUSE)
    since = min((each.time for each in last), default=history[0].event.time)
    return any(hit.explains(since, history[-1].event.time) for hit in hits)


def summary(evidence: Evidence) -> list[str]:
    """What happened, in numbers."""
    extras = Counter(
        extra.why
        for file_id, planned in evidence.accepted.items()
        for extra in extra_attempts(evidence, file_id, planned)
    )
    histories = [_history(evidence, file_id) for file_id in evidence.accepted]
    begun = sum(isinstance(each.event, FileProcessing) for each in chain(*histories))
    late = sum(max(0, sum(map(_is_outcome, history)) - 1) for history in histories)
    ends = Counter(str(status.status) for status in evidence.statuses.values())
    hits = Counter(str(hit.kind) for hit in evidence.hits)
    return [
        f"files accepted: {len(evidence.accepted)}; {_counts(ends)}",
        f"faults: {_counts(hits)}",
        f"attempts begun: {begun}; beyond the plan: {_counts(extras) or 'none'}",
        f"outcomes that came second and changed nothing: {late}",
        f"unreadable records: {len(evidence.unreadable)}, dead letters: {len(evidence.letters)}",
    ]


def check(evidence: Evidence) -> list[Problem]:
    """All broken promises."""
    return [problem for promise in PROMISES for problem in promise(evidence)]


def tell(evidence: Evidence, problems: Iterable[Problem]) -> str:
    """The problems, what was done, and the whole history of every file they are about."""
    lines = [*summary(evidence), "", "what was done:"]
    lines += [
        f"  {hit.begin:%H:%M:%S.%f} to {hit.end:%H:%M:%S.%f} {hit.kind} {hit.pod or ''}"
        for hit in evidence.hits
    ]
    told: set[str | None] = {None}
    for problem in problems:
        lines += ["", f"{problem.file_id or ''} {problem.what}"]
        if problem.file_id in told:
            continue
        told.add(problem.file_id)
        assert problem.file_id is not None
        lines.append(f"  planned: {evidence.accepted.get(problem.file_id)}")
        lines += [f"  {_line(each)}" for each in _history(evidence, problem.file_id)]
    return "\n".join(lines)


def _history(evidence: Evidence, file_id: str) -> Sequence[Logged]:
    return evidence.histories.get(file_id, ())


def _is_outcome(logged: Logged) -> bool:
    return isinstance(logged.event, Outcome)


def _retry_before(history: Sequence[Logged], attempt: int) -> FileRetrying | None:
    """The event that told that the attempt before this one failed."""
    for event, _ in history:
        if isinstance(event, FileRetrying) and event.data.attempt == attempt - 1:
            return event
    return None


def _hits_of(
    evidence: Evidence, attempts: Iterable[FileProcessing] | None, *kinds: Kind
) -> list[Hit]:
    """The faults of these kinds that hit a pod that made one of these attempts; None for any pod.

    What hits the broker hits every pod.
    """
    pods = None if attempts is None else {each.data.pod for each in attempts}
    return [
        hit
        for hit in evidence.hits
        if hit.kind in BROKER_FAULTS or (hit.kind in kinds and (pods is None or hit.pod in pods))
    ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _line(logged: Logged) -> str:
    data = vars(logged.event.data)
    told = {
        name: data[name] for name in ("attempt", "max_attempts", "pod", "error") if name in data
    }
    return f"{logged.event.time:%H:%M:%S.%f} {logged.event.type} {told}"

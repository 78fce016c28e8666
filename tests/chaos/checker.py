"""Check that a run kept its promises: one pure function over its evidence per promise."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from services.status.projection.projection import FileState, Status, apply
from shared.events.events import (
    FileCancelled,
    FileCompleted,
    FileFailed,
    FileProcessing,
    StatusEvent,
)
from shared.events.topics import UPLOADED
from tests.chaos.attempts import extra_attempts, last_attempt_was_interrupted
from tests.chaos.evidence import Evidence, Logged, Problem
from tests.chaos.stream_promises import (
    ends_received,
    ends_without_mongodb,
    late_states,
    states_told_wrong,
)
from tests.chaos.view_promises import (
    cut_texts,
    numbers_that_are_wrong,
    services_not_ready,
    stale_gauges,
    times_out_of_order,
    views_at_odds,
    wrong_times,
)

Outcome = FileCompleted | FileFailed | FileCancelled

MAX_LOG = 4 << 20
"""Bytes; in a run of 2,000 files some hundred thousand are usual, with one line per failure."""


def forgotten_files(evidence: Evidence) -> Iterator[Problem]:
    """A file answered with 202 is never answered with 404, even during an outage."""
    for file_id in evidence.unknown:
        yield Problem("was answered 202, and 404 a moment later", file_id)


def unfinished_files(evidence: Evidence) -> Iterator[Problem]:
    """Every accepted file is terminal."""
    for file_id in evidence.accepted:
        status = evidence.statuses.get(file_id)
        if status is None or not status.status.is_terminal:
            yield Problem(f"is {status.status if status else 'unknown'}", file_id)


def unplanned_outcomes(evidence: Evidence) -> Iterator[Problem]:
    """Every file ends as planned and for the planned reason, so the counts match."""
    for file_id, planned in evidence.accepted.items():
        status = evidence.statuses.get(file_id)
        if status is None or not status.status.is_terminal:
            continue  # Reported by `unfinished_files`.
        code = status.error.code if status.error else None
        if status.status is FileState.FAILED is planned.status and last_attempt_was_interrupted(
            evidence, file_id, status
        ):
            continue
        if status.status is not planned.status or (code is not None and code not in planned.codes):
            yield Problem(f"ended as {status.status} ({code}), not as {planned.status}", file_id)


def ambiguous_outcomes(evidence: Evidence) -> Iterator[Problem]:
    """There is one effective terminal state: the first one in the log, which MongoDB also shows."""
    for file_id in evidence.accepted:
        outcomes = [each.event for each in _history(evidence, file_id) if _is_outcome(each)]
        status = evidence.statuses.get(file_id)
        if not outcomes or status is None:
            continue  # Reported by `unfinished_files`.
        if outcomes[0].type != f"file.{status.status}":
            yield Problem(f"the log says {outcomes[0].type}, MongoDB {status.status}", file_id)


def outcomes_that_moved(evidence: Evidence) -> Iterator[Problem]:
    """No event moves a file out of its terminal state."""
    for file_id in evidence.accepted:
        status: Status | None = None
        for event, offset, _ in _history(evidence, file_id):
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
    """Every attempt beyond the plan is explained by a fault that hit the file's pod."""
    for file_id, planned in evidence.accepted.items():
        for extra in extra_attempts(evidence, file_id, planned):
            if not extra.explained:
                yield Problem(f"attempt {extra.attempt} on {extra.pod}: {extra.why}", file_id)


def lost_letters(evidence: Evidence) -> Iterator[Problem]:
    """Every record that cannot be read or stored is dead-lettered by each service that reads it."""
    kept = {
        (letter.source, letter.data.topic, letter.data.partition, letter.data.offset)
        for letter in evidence.letters
    }
    for origin in evidence.unreadable:
        reader = "/processor" if origin.topic.endswith(UPLOADED.name) else "/projector"
        if (reader, *origin) not in kept:
            yield Problem(f"no dead letter of {origin} by {reader}")


def records_left_over(evidence: Evidence) -> Iterator[Problem]:
    """The group `processor` has finished all its records."""
    if evidence.lag:
        yield Problem(f"the group processor lags by {evidence.lag} records")


def fallen_services(evidence: Evidence) -> Iterator[Problem]:
    """No service exits by itself."""
    for fallen in evidence.fallen:
        yield Problem(fallen)


def endless_logs(evidence: Evidence) -> Iterator[Problem]:
    """No service floods its log, not even during an outage of Kafka or MongoDB."""
    for name, size in evidence.logs.items():
        if size > MAX_LOG:
            yield Problem(f"{name} wrote {size >> 20} MiB into its log")


def drifted_files(evidence: Evidence) -> Iterator[Problem]:
    """A replay of the log matches MongoDB."""
    if evidence.drift:
        yield Problem(evidence.drift)


PROMISES: tuple[Callable[[Evidence], Iterator[Problem]], ...] = (
    forgotten_files,
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
    views_at_odds,
    times_out_of_order,
    wrong_times,
    cut_texts,
    numbers_that_are_wrong,
    stale_gauges,
    services_not_ready,
    states_told_wrong,
    late_states,
)


def summary(evidence: Evidence) -> list[str]:
    """Return statistics of the run."""
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
        f"texts compared: {len(evidence.views.texts)}; ends told by streams: "
        f"{ends_received(evidence)}, {ends_without_mongodb(evidence)} of them without MongoDB",
    ]


def broken_promises(evidence: Evidence) -> dict[str, list[Problem]]:
    """Return the broken promises by name, each with its problems."""
    found = {promise.__name__: list(promise(evidence)) for promise in PROMISES}
    return {name: problems for name, problems in found.items() if problems}


def describe(evidence: Evidence, problems: Iterable[Problem]) -> str:
    """Describe the faults, the problems, and the full history of every affected file."""
    lines = ["what was done:"]
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


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items()))


def _line(logged: Logged) -> str:
    data = vars(logged.event.data)
    told = {
        name: data[name] for name in ("attempt", "max_attempts", "pod", "error") if name in data
    }
    said = f"{logged.event.time:%H:%M:%S.%f}"
    return f"{logged.time:%H:%M:%S.%f} (said {said}) {logged.event.type} {told}"

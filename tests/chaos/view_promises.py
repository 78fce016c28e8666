"""Promises about what the services show at the end, checked on evidence alone."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

from services.status.projection.projection import Status, fold
from shared.events.events import FileUploaded, StatusEvent
from tests.chaos.evidence import Evidence, Logged, Problem
from tests.chaos.faults import AFTERMATH, BROKER_FAULTS, CLOCK_FAULTS, SKEW, Kind
from tests.chaos.gauges import wrong_gauges

NOT_LISTED = frozenset({"history"})
"""Fields of a file that lists omit."""

SHOWN = 300
"""Characters of a difference that are shown."""

ROUNDING = timedelta(seconds=1)
"""Possible difference between two correct clocks of one machine, far below that of a wrong one."""

FIRST_ONES = 4
"""Events that a pod may publish before Kafka reveals that its clock is wrong."""

OF_THE_MOMENT = frozenset({"queue"})
"""Fields about the pod's current state instead of the file."""


def views_at_odds(evidence: Evidence) -> Iterator[Problem]:
    """A fresh pod shows every file alike in the list and alone, and both match the log."""
    views = evidence.views
    for file_id in sorted(evidence.histories.keys() | views.listed.keys() | views.single.keys()):
        folded = folded_status(evidence.histories.get(file_id, ()))
        logged = json.loads(folded.model_dump_json()) if folded else {}
        listed, single = views.listed.get(file_id, {}), views.single.get(file_id, {})
        for what, shown, left_out in (
            ("the list", listed, NOT_LISTED),
            ("the file alone", single, OF_THE_MOMENT),
        ):
            for name in sorted((logged.keys() | shown.keys()) - left_out):
                if logged.get(name) != shown.get(name):
                    there, here = (repr(each.get(name))[:SHOWN] for each in (logged, shown))
                    yield Problem(f"{name}: the log says {there}, {what} {here}", file_id)


def times_out_of_order(evidence: Evidence) -> Iterator[Problem]:
    """No file starts before its upload or ends before its start, whatever the clocks show."""
    for file_id in evidence.accepted:
        status = evidence.statuses.get(file_id)
        if status is None:
            continue  # Reported by `unfinished_files`.
        times = (status.created_at, status.started_at, status.finished_at)
        known = [each for each in times if each is not None]
        if any(after < before - ROUNDING for before, after in pairwise(known)):
            told = ", ".join(f"{each:%H:%M:%S.%f}" for each in known)
            yield Problem(f"uploaded, begun and ended at {told}", file_id)


def wrong_times(evidence: Evidence) -> Iterator[Problem]:
    """A pod with a wrong clock reports correct times once it has learned the time from Kafka."""
    wrong = [
        (file_id, each)
        for file_id in evidence.accepted
        for each in evidence.histories.get(file_id, ())
        if abs(each.time - each.event.time) > SKEW / 2 and not _waited_unmeasured(each, evidence)
    ]
    clocks = sum(hit.kind in CLOCK_FAULTS for hit in evidence.hits)
    if len(wrong) > FIRST_ONES * clocks:
        for file_id, each in wrong:
            yield Problem(f"{each.event.type} says {each.event.time:%H:%M:%S}", file_id)


def _waited_unmeasured(logged: Logged, evidence: Evidence) -> bool:
    """Return True for an upload from the outbox of a pod that had not reached Kafka yet.

    The pod started with a wrong clock while Kafka was unavailable, so it had no other time.
    """
    if not isinstance(logged.event, FileUploaded):
        return False
    clocks = [hit for hit in evidence.hits if hit.kind is Kind.WRONG_SERVICE_CLOCKS]
    outages = [hit for hit in evidence.hits if hit.kind in BROKER_FAULTS]
    return any(
        outage.explains(clock.begin, clock.end)
        and clock.begin <= logged.time <= outage.end + AFTERMATH
        for clock in clocks
        for outage in outages
    )


def cut_texts(evidence: Evidence) -> Iterator[Problem]:
    """The extracted text of a completed text equals the upload, byte by byte."""
    for file_id, planned in evidence.accepted.items():
        status = evidence.statuses.get(file_id)
        if not planned.text or status is None or status.result is None:
            continue  # Other promises report files that did not complete.
        if evidence.views.texts.get(file_id) != planned.sha256:
            sizes = [each.size for each in status.result.artifacts]
            yield Problem(f"of {planned.text} characters, its artifacts have {sizes}", file_id)


def numbers_that_are_wrong(evidence: Evidence) -> Iterator[Problem]:
    """`/api/stats` of every pod counts files like the log and shows an empty queue."""
    counts = _counts(evidence)
    for pod, numbers in evidence.views.numbers.items():
        if "files" not in numbers:
            yield Problem(f"{pod} has no numbers: {numbers}")
            continue
        counted = {state: count for state, count in numbers["files"].items() if count}
        if counted != counts:
            yield Problem(f"{pod} counts {counted}, the log {dict(counts)}")
        lags = {group: sum(topics.values()) for group, topics in numbers["lag"].items()}
        if any(lags.values()) or numbers["queue"]["length"]:
            yield Problem(f"{pod} says that something waits: {numbers['queue']}, lags {lags}")


def stale_gauges(evidence: Evidence) -> Iterator[Problem]:
    """Gauges of every service show an empty queue, running loops and the right file counts."""
    files = _counts(evidence)
    for name, gauges in evidence.views.gauges.items():
        for what in wrong_gauges(gauges, files=files):
            yield Problem(f"{name}: {what}")


def services_not_ready(evidence: Evidence) -> Iterator[Problem]:
    """Every service is ready after all faults."""
    for name, reason in evidence.views.not_ready.items():
        yield Problem(f"{name} is not ready: {reason}")


def _counts(evidence: Evidence) -> Counter[str]:
    folded = map(folded_status, evidence.histories.values())
    return Counter(str(status.status) for status in folded if status is not None)


def folded_status(history: Any) -> Status | None:
    """Return the state of a file according to the log."""
    events: list[Logged] = list(history)
    return fold(
        None,
        [(each.event, each.offset) for each in events if isinstance(each.event, StatusEvent)],
    )

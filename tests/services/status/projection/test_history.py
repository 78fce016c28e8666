"""The history shows how long each attempt waited and how long it took."""

from itertools import permutations

from services.status.projection.history import HistoryEntry, with_durations
from services.status.projection.projection import FileState, fold
from shared.events.events import StatusEvent
from tests.support.builders import (
    START,
    cancelled,
    completed,
    deleted,
    failed,
    processing,
    requeued,
    retrying,
    uploaded,
)


def durations(*events: StatusEvent) -> list[tuple[str, float | None, float | None]]:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    return [
        (line.type.removeprefix("file."), line.waited_seconds, line.took_seconds)
        for line in with_durations(status.history)
    ]


def test_an_attempt_waits_from_when_it_could_begin_and_takes_until_it_ends() -> None:
    assert durations(
        uploaded(time=0),
        processing(time=4),
        retrying(time=6),  # The next attempt is due five seconds later.
        processing(2, time=12),
        completed(2, time=15),
        requeued(time=50),
        processing(run=2, time=50.5),
    ) == [
        ("uploaded", None, None),
        ("processing", 4, None),
        ("retrying", None, 2),
        ("processing", 1, None),
        ("completed", None, 3),
        ("requeued", None, None),
        ("processing", 0.5, None),
    ]


def test_clocks_that_disagree_make_no_negative_durations() -> None:
    assert durations(uploaded(time=2), processing(time=1), completed(time=0)) == [
        ("uploaded", None, None),
        ("processing", 0, None),
        ("completed", None, 0),
    ]


def test_what_is_not_known_has_no_duration() -> None:
    assert durations(completed()) == [("completed", None, None)]


def told(history: tuple[HistoryEntry, ...]) -> list[str]:
    return [
        f"{line.type.removeprefix('file.')} {line.run}.{line.attempt}"
        + (" superseded" if line.superseded else "")
        for line in history
    ]


def test_what_a_lost_attempt_tells_after_the_end_is_marked_in_whatever_order_it_comes() -> None:
    # Pod A is frozen at attempt 1, pod B takes over and completes, and A wakes up.
    log: list[StatusEvent] = [
        processing(1, pod="a"),
        retrying(1, time=8),
        processing(2, pod="b", time=8.1),
        completed(2, time=12),
        completed(1, time=20),
    ]
    for order in permutations(range(len(log))):
        status = fold(None, [(uploaded(), 0), *((log[at], at) for at in order)])
        assert status is not None
        assert status.status is FileState.COMPLETED
        assert status.attempt == 2
        assert told(status.history) == [
            "uploaded 1.None",
            "processing 1.1",
            "retrying 1.1",
            "processing 1.2",
            "completed 1.2",
            "completed 1.1 superseded",
        ]


def test_a_lost_attempt_that_ends_first_decides_and_the_later_end_is_marked() -> None:
    log: list[StatusEvent] = [
        uploaded(),
        processing(1, pod="a"),
        retrying(1, time=8),
        processing(2, pod="b", time=8.1),
        completed(1, time=9),
        failed(2, time=12),
        processing(3, pod="c", time=13),
        deleted(),
    ]
    status = fold(None, [(event, offset) for offset, event in enumerate(log)])
    assert status is not None
    assert (status.status, status.attempt) == (FileState.COMPLETED, 1)
    assert told(status.history) == [
        "uploaded 1.None",
        "processing 1.1",
        "retrying 1.1",
        "processing 1.2",
        "completed 1.1",
        "failed 1.2 superseded",
        "processing 1.3 superseded",
        "deleted 1.None",
    ]


def test_of_a_cancelled_and_a_completed_run_one_end_is_told() -> None:
    log: list[StatusEvent] = [uploaded(), processing(), cancelled(), completed(), requeued()]
    for order in permutations(range(len(log))):
        status = fold(None, [(log[at], at) for at in order])
        assert status is not None
        assert told(status.history) == [
            "uploaded 1.None",
            "processing 1.1",
            "cancelled 1.1",
            "completed 1.1 superseded",
            "requeued 2.None",
        ]


def test_a_file_that_was_told_of_by_clocks_that_disagree_begins_and_ends_in_order() -> None:
    slow = -3000.0
    log: list[StatusEvent] = [
        uploaded(time=0),
        processing(time=slow + 1),
        completed(time=slow + 9),
    ]
    for order in permutations(range(3)):
        status = fold(None, [(log[at], at) for at in order])
        assert status is not None
        assert status.created_at is not None
        assert status.created_at <= (status.started_at or START) <= (status.finished_at or START)
        times = [line.time for line in with_durations(status.history)]
        assert times == sorted(times)

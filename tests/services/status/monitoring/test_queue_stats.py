"""Queue positions and waiting times follow from counts, whatever the order of the work."""

from collections.abc import Iterable

import pytest

from services.status.monitoring.queue_stats import QueueStats, Sample
from services.status.projection.projection import FileState, Status, fold
from shared.events.events import StatusEvent
from tests.support.builders import START, at, processing, retrying, uploaded

EPOCH = START.timestamp()


def sample(
    seconds: float, *, arrived: int, pending: int, retrying: int = 0, processing: int = 2
) -> Sample:
    files = dict.fromkeys(FileState, 0) | {
        FileState.PENDING: pending,
        FileState.PROCESSING: processing,
    }
    return Sample(at=EPOCH + seconds, arrived=arrived, retrying=retrying, files=files)


def traffic_of(samples: Iterable[Sample]) -> QueueStats:
    queue_stats = QueueStats()
    for each in samples:
        queue_stats.note(each)
    return queue_stats


def file_of(*events: StatusEvent) -> Status:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    return status


# Ten files per second arrive, and four per second start.
BUSY = [sample(second, arrived=1000 + 10 * second, pending=6 * second) for second in range(11)]


@pytest.mark.parametrize(
    ("uploaded_at", "position", "expected"),
    [(10, 60, 15.0), (9.5, 55, 13.8), (5, 10, 2.5), (1, 1, 0.2), (-100, 1, 0.2), (12, 60, 15.0)],
    ids=["last", "half a second before", "before", "should be begun", "long ago", "after the look"],
)
def test_the_place_of_a_file_is_the_queue_less_what_came_after_it(
    uploaded_at: float, position: int, expected: float
) -> None:
    place = traffic_of(BUSY).place(file_of(uploaded(time=uploaded_at)), at(12))
    assert place is not None
    assert (place.position, place.length) == (position, 60)
    assert place.expected_seconds == expected


def test_what_arrives_is_begun_and_ends_is_told_a_second() -> None:
    rates = traffic_of(BUSY).rates()
    assert (rates.arrived, rates.begun, rates.ended) == (10, 4, 4)
    alone = traffic_of([sample(0, arrived=5, pending=5)])
    assert alone.rates().begun == 0


def test_files_that_wait_for_their_next_attempt_are_not_in_the_queue() -> None:
    queue_stats = traffic_of([sample(0, arrived=50, pending=40, retrying=38)])
    place = queue_stats.place(file_of(uploaded(time=0)), at(1))
    assert place is not None
    assert (place.position, place.length) == (2, 2)
    assert queue_stats.place(file_of(uploaded(), processing(), retrying()), at(1)) is None
    assert queue_stats.place(file_of(uploaded(), processing()), at(1)) is None


def test_nothing_is_expected_of_a_queue_that_stands_still() -> None:
    still = traffic_of(sample(second, arrived=7, pending=7) for second in range(5))
    place = still.place(file_of(uploaded(time=0)), at(5))
    assert place is not None
    assert place.expected_seconds is None


def test_a_queue_that_was_empty_a_moment_ago_does_not_make_one_wait() -> None:
    # One file per minute does not reveal how many could start.
    rare = traffic_of([sample(0, arrived=6, pending=0), sample(59, arrived=7, pending=1)])
    place = rare.place(file_of(uploaded(time=58)), at(59))
    assert place is not None
    assert place.expected_seconds == 0


def test_old_counts_tell_nothing() -> None:
    assert traffic_of(BUSY).place(file_of(uploaded(time=1)), at(41)) is None
    assert QueueStats().place(file_of(uploaded(time=1)), at(1)) is None


def test_the_looks_of_an_hour_are_kept_and_no_more() -> None:
    queue_stats = traffic_of(sample(second, arrived=second, pending=0) for second in range(10_000))
    assert 3600 <= len(queue_stats._samples) <= 7200
    assert queue_stats.latest(EPOCH + 9_999) is not None


def test_looks_of_a_clock_that_was_set_back_tell_no_rates_below_zero() -> None:
    queue_stats = traffic_of(
        [
            sample(100, arrived=10, pending=5),
            sample(110, arrived=20, pending=5),
            sample(50, arrived=30, pending=5),
        ]
    )
    queue_stats.note(sample(60, arrived=40, pending=5))
    assert queue_stats.rates().arrived == 1
    assert queue_stats.latest(EPOCH + 60) is not None

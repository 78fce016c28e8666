"""The time until the next poll follows from what is known of the work."""

import pytest

from services.status.monitoring.expectation import poll_after, seconds_left
from services.status.monitoring.queue_stats import QueuePlace
from services.status.projection.projection import fold
from shared.events.events import StatusEvent
from tests.support.builders import (
    at,
    completed,
    failed,
    processing,
    progressed,
    requeued,
    retrying,
    uploaded,
)


@pytest.mark.parametrize(
    ("events", "now", "left", "again"),
    [
        ([uploaded()], 0.2, None, 1),
        ([uploaded()], 100, None, 10),
        ([uploaded()], 9000, None, 30),
        ([uploaded(), processing(time=1)], 41, None, 4),
        ([uploaded(), processing(time=0), progressed(done=1, total=4)], 10, 30, 15),
        ([uploaded(), processing(time=0), progressed(done=3, total=4)], 3, 1, 1),
        ([uploaded(), processing(time=0), progressed(done=1, total=100)], 60, 5940, 30),
        ([uploaded(), processing(time=0), progressed(done=0, total=4)], 50, None, 5),
        ([uploaded(), processing(), retrying(time=3)], 4, 4, 4),
        ([uploaded(), processing(), retrying(time=3)], 20, 0, 1),
        ([uploaded(), processing(), failed(), requeued(time=50)], 70, None, 2),
        ([uploaded(), processing(), completed()], 70, 0, 1),
    ],
    ids=[
        "just uploaded",
        "queued for a while",
        "queued for hours",
        "processing, and nothing is known",
        "a quarter is done",
        "nearly done",
        "long to go",
        "nothing is done yet",
        "an attempt is due soon",
        "an attempt is due",
        "its second run waits",
        "over",
    ],
)
def test_the_time_to_ask_again_follows_the_work(
    events: list[StatusEvent], now: float, left: float | None, again: int
) -> None:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    assert seconds_left(status, at(now)) == left
    assert poll_after(status, at(now)) == again


@pytest.mark.parametrize(("expected", "again"), [(0.0, 1), (20.0, 10), (900.0, 30), (None, 6)])
def test_a_file_in_the_queue_is_asked_for_when_its_turn_comes(
    expected: float | None, again: int
) -> None:
    status = fold(None, [(uploaded(), 0)])
    assert status is not None
    place = QueuePlace(position=3, length=4, expected_seconds=expected)
    assert poll_after(status, at(60), place) == again


def test_a_second_attempt_is_measured_from_its_own_beginning() -> None:
    events: list[StatusEvent] = [
        uploaded(),
        processing(1, time=0),
        retrying(1, time=100),
        processing(2, time=200),
        progressed(1, attempt=2, done=2, total=4, time=210),
    ]
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    assert seconds_left(status, at(210)) == 10

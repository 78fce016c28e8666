"""Queue positions are distinct and never grow, and the wait follows the recent pace."""

import pytest

from services.status.monitoring.queue_positions import MAX_WAITING, WaitingQueue
from services.status.projection.projection import Status, fold
from shared.events.events import StatusEvent
from tests.support.builders import about, cancelled, processing, retrying, uploaded

WAITING = (uploaded(),)
BEGUN = (uploaded(), processing())
RETRYING = (uploaded(), processing(), retrying())
CANCELLED = (uploaded(), cancelled())


def file(number: int, events: tuple[StatusEvent, ...] = WAITING) -> Status:
    file_id = f"file-{number:06}"
    status = fold(None, [(about(file_id, event), at) for at, event in enumerate(events)])
    assert status is not None
    return status


def line_of(count: int, now: float = 0.0) -> WaitingQueue:
    line = WaitingQueue()
    line.observe((file(number) for number in range(count)), now)
    return line


def places(line: WaitingQueue, count: int) -> list[int | None]:
    return [line.place(f"file-{number:06}") for number in range(count)]


def test_fifty_files_at_once_have_fifty_places() -> None:
    line = line_of(50)
    assert places(line, 50) == list(range(1, 51))
    assert line.length == 50
    assert line.expected(50, now=0.0) is None, "nothing has moved yet, so nobody can know"


@pytest.mark.parametrize("left", [BEGUN, CANCELLED, RETRYING], ids=["begun", "cancelled", "retry"])
def test_whoever_leaves_moves_those_behind_and_nobody_else(left: tuple[StatusEvent, ...]) -> None:
    line = line_of(5)
    line.observe([file(2, left)], now=1.0)
    assert places(line, 5) == [1, 2, None, 3, 4]
    line.observe([file(9)], now=2.0)
    assert places(line, 5) == [1, 2, None, 3, 4]
    assert line.place("file-000009") == 5


def test_no_place_ever_grows_whatever_comes_and_is_counted() -> None:
    line = line_of(3000)
    line.count(3200)
    before = places(line, 3000)
    assert before[0] == 201
    for step in range(200):
        line.observe([file(10_000 + step)], now=float(step))
        line.observe([file(step * 7, BEGUN)], now=float(step))
        line.count(3300 - step)
        now = places(line, 3000)
        assert all(
            a is None or (b is not None and a <= b) for a, b in zip(now, before, strict=True)
        )
        known = [place for place in now if place is not None]
        assert len(set(known)) == len(known)
        before = now


def test_the_wait_of_twenty_thousand_files_follows_the_pace_of_the_last_seconds() -> None:
    line = line_of(20_000)
    assert line.expected(20_000, now=100.0) is None
    begun, now = 0, 100.0  # The processors start now: 317 files per second.
    for _ in range(6):
        line.observe((file(number, BEGUN) for number in range(begun, begun + 317)), now)
        begun, now = begun + 317, now + 1
    last = line.place("file-019999")
    assert last == 20_000 - begun
    expected = line.expected(last, now)
    assert expected is not None
    assert expected == pytest.approx(last / 317, rel=0.3)


def test_a_pace_that_changes_is_told_within_seconds() -> None:
    line = line_of(10_000)
    begun = 0
    for second in range(60):
        pace = 10 if second < 50 else 200
        line.observe((file(number, BEGUN) for number in range(begun, begun + pace)), second)
        begun += pace
    assert line.expected(1000, now=59.5) == pytest.approx(5.0, rel=0.3)


def test_a_line_that_stands_still_tells_nothing() -> None:
    line = line_of(100)
    line.observe((file(number, BEGUN) for number in range(20)), 0.0)
    assert line.expected(80, now=30.0) is not None
    assert line.expected(80, now=62.0) is None


def test_the_line_is_bounded_and_the_oldest_are_counted_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_WAITING >= 100_000
    monkeypatch.setattr("services.status.monitoring.queue_positions.MAX_WAITING", 10)
    line = line_of(25)
    assert places(line, 15) == [None] * 15
    assert [line.place(f"file-{number:06}") for number in (15, 24)] == [16, 25]
    assert line.length == 25


def test_files_that_are_cancelled_while_they_wait_tell_no_pace() -> None:
    line = line_of(50)
    line.observe((file(number, CANCELLED) for number in range(40)), now=1.0)
    assert line.length == 10
    assert line.expected(10, now=1.0) is None

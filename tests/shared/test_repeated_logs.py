"""Repeated log lines of a library are rate-limited and counted."""

import logging

import pytest

from shared.repeated_logs import INTERVAL, RepeatedLines


class FakeClock:
    """A monotonic clock that only the test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lines(clock: FakeClock) -> RepeatedLines:
    return RepeatedLines("aiokafka", clock=clock)


def record(logger: str, line: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "conn.py", line, "%s", (text,), None)


def test_lines_of_one_kind_are_counted_and_not_written(
    lines: RepeatedLines, clock: FakeClock
) -> None:
    assert lines.filter(record("aiokafka.conn", 7, "to node 1"))
    assert not any(lines.filter(record("aiokafka.conn", 7, f"to node {n}")) for n in range(300))
    assert lines.filter(record("aiokafka.conn", 8, "another"))
    clock.now += INTERVAL
    again = record("aiokafka.conn", 7, "to node 2")
    assert lines.filter(again)
    assert again.getMessage() == "to node 2 (300 similar lines were suppressed)"


def test_lines_of_our_own_are_all_written(lines: RepeatedLines) -> None:
    assert all(lines.filter(record("shared.background.supervision", 7, "waits")) for _ in range(50))

"""The due times of waiting records: pure functions that take the time as an argument.

A timer may fire early, and the machine's clock may be changed. A record is therefore not due just
because a wait has ended.
"""

from collections import deque
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E")

SHORTEST_SLEEP, LONGEST_SLEEP = 0.001, 60.0
"""Seconds between two checks for due records. The maximum bounds how late a changed clock is
noticed."""


class Waiting(NamedTuple, Generic[E]):
    """A record of a partition and its due time."""

    due_at: datetime
    offset: int
    event: E


def take_due(waiting: deque[Waiting[E]], now: datetime) -> list[Waiting[E]]:
    """Remove the due records from the front and return them.

    A record that is not due blocks the ones behind it, because offsets are committed in order.
    """
    due: list[Waiting[E]] = []
    while waiting and waiting[0].due_at <= now:
        due.append(waiting.popleft())
    return due


def seconds_to_sleep(due_at: datetime, now: datetime) -> float:
    """Return the seconds to sleep before the next check for due records."""
    return min(LONGEST_SLEEP, max(SHORTEST_SLEEP, (due_at - now).total_seconds()))

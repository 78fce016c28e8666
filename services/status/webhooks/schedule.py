"""When what waits in a partition is due: pure, with the time as an argument.

A timer may fire early, and the clock of the machine may be set: so nothing is taken to be due
because a wait for it is over.
"""

from collections import deque
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E")

SHORTEST_SLEEP, LONGEST_SLEEP = 0.001, 60.0
"""Seconds between two looks at what is due. After the longest one a clock that was set in between
is noticed."""


class Waiting(NamedTuple, Generic[E]):
    """One record of a partition, and when it is due."""

    due_at: datetime
    offset: int
    event: E


def take_due(waiting: deque[Waiting[E]], now: datetime) -> list[Waiting[E]]:
    """Take those from the front that are due; none if the first one is not.

    Later ones wait for one that is not due, because offsets are committed in order.
    """
    due: list[Waiting[E]] = []
    while waiting and waiting[0].due_at <= now:
        due.append(waiting.popleft())
    return due


def seconds_to_sleep(due_at: datetime, now: datetime) -> float:
    """How long to sleep before the next look at what is due then."""
    return min(LONGEST_SLEEP, max(SHORTEST_SLEEP, (due_at - now).total_seconds()))

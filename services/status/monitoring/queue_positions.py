"""The queue of waiting files, in the order in which this pod's tail sees them arrive.

The position of a file is the number of earlier files that still wait, plus one. Two files never
share a position, and a position never grows, since later files queue behind. Owners take turns,
however: a file may start before those in front of it, or keep its position while others start.

Files that arrived before the tail began are only counted, at the front of the queue.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

from services.status.projection.projection import FileState, Status

MAX_WAITING = 100_000
"""Files with a known position, about 200 bytes each. The oldest files beyond this limit are only
counted."""

WINDOWS = (5.0, 15.0, 60.0)
"""Seconds over which the pace is measured. The shortest window with `ENOUGH` starts is used."""

ENOUGH = 10
"""Files that must have started within a window before its pace is used."""

FIRST_CAPACITY = 1024


class Counts:
    """Counts the marked numbers below a number: a Fenwick tree."""

    def __init__(self, capacity: int) -> None:
        self._sums = [0] * (capacity + 1)

    @property
    def capacity(self) -> int:
        """One more than the largest number that fits."""
        return len(self._sums) - 1

    def add(self, number: int, step: int) -> None:
        """Set (1) or remove (-1) the mark on a number."""
        number += 1
        while number < len(self._sums):
            self._sums[number] += step
            number += number & -number

    def below(self, number: int) -> int:
        """Return how many marked numbers are below a number."""
        total = 0
        while number > 0:
            total += self._sums[number]
            number -= number & -number
        return total


class WaitingQueue:
    """The waiting files in order of arrival, and the pace at which they start."""

    def __init__(self) -> None:
        self._number: OrderedDict[str, int] = OrderedDict()
        """The sequence number of each waiting file, in order of arrival."""
        self._counts = Counts(FIRST_CAPACITY)
        self._next = 0
        self._older: int | None = None
        """Files in front of all of these; None until they have been counted."""
        self._begun: deque[list[int]] = deque(maxlen=int(WINDOWS[-1]) + 1)
        """Pairs of a second and the number of files that started in it."""
        self._busy_since: float | None = None

    def observe(self, statuses: Iterable[Status], now: float) -> None:
        """Update the queue from new states of files.

        Args:
            now: monotonic seconds.
        """
        for status in statuses:
            if _waits(status):
                self._enter(status.file_id, now)
            else:
                self._leave(status, now)

    def count(self, queued: int) -> None:
        """Update the number of waiting files that are older than the tail; it never grows.

        Args:
            queued: all waiting files, by a slightly older count.
        """
        older = max(0, queued - len(self._number))
        self._older = older if self._older is None else min(self._older, older)

    def place(self, file_id: str) -> int | None:
        """Return the position of a file, 1 for the first; None if unknown."""
        number = self._number.get(file_id)
        if number is None:
            return None
        return (self._older or 0) + self._counts.below(number) + 1

    @property
    def length(self) -> int:
        """Number of waiting files."""
        return (self._older or 0) + len(self._number)

    def expected(self, place: int, now: float) -> float | None:
        """Return the seconds until the file at a position starts, at the recent pace.

        None if nothing has started recently.

        Args:
            now: monotonic seconds.
        """
        for window in WINDOWS:
            begun = sum(count for second, count in self._begun if second > now - window)
            is_last = window == WINDOWS[-1]
            if begun >= ENOUGH or (is_last and begun):
                waited = now - self._busy_since if self._busy_since is not None else window
                return round(place * max(min(window, waited), 0.1) / begun, 1)
        return None

    def _enter(self, file_id: str, now: float) -> None:
        if file_id in self._number:
            return
        if self._next == self._counts.capacity:
            self._renumber()
        if not self._number and not self._older:
            self._busy_since = now
        self._number[file_id] = self._next
        self._counts.add(self._next, 1)
        self._next += 1
        if len(self._number) > MAX_WAITING:
            _, number = self._number.popitem(last=False)
            self._counts.add(number, -1)
            self._older = (self._older or 0) + 1

    def _leave(self, status: Status, now: float) -> None:
        number = self._number.pop(status.file_id, None)
        if number is None:
            return  # It has already left, or is an older file, which the next count includes.
        self._counts.add(number, -1)
        if status.status in _TOOK_THEIR_TURN:
            second = int(now)
            if self._begun and self._begun[-1][0] == second:
                self._begun[-1][1] += 1
            else:
                self._begun.append([second, 1])

    def _renumber(self) -> None:
        """Renumber the waiting files from 0, with room for as many again."""
        capacity = max(FIRST_CAPACITY, 2 * len(self._number))
        self._counts = Counts(capacity)
        for number, file_id in enumerate(self._number):
            self._number[file_id] = number
            self._counts.add(number, 1)
        self._next = len(self._number)


_TOOK_THEIR_TURN = (FileState.PROCESSING, FileState.COMPLETED, FileState.FAILED)
"""States that count towards the pace. A short file may already have finished when it is seen next.
A cancelled file did not start."""


def _waits(status: Status) -> bool:
    return (
        status.status is FileState.PENDING
        and status.next_attempt_at is None
        and status.deleted_at is None
        and status.created_at is not None
    )

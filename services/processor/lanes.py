"""Choose the next waiting record in a fair order: a pure structure, no clock, no I/O.

One user's ten thousand scans must not starve another user's single page. Owners take turns; the one
with the least work in flight goes first. Within an owner's share, small files overtake large ones.
The last slot is reserved: neither one owner nor all large files together may occupy it.

A record is a suspect if a pod died while processing it, since it may have killed the pod. Suspects
start one at a time. That clears innocent records, and a harmful one takes down only records that
run beside it for the first time.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

MAX_AHEAD = 128
"""Records that may start beyond the number of workers. Each counts as an attempt if the pod dies.
Trivial files pass at 3,000 a second and are in flight for 20 to 40 ms: until their start is
committed, and until Kafka has acknowledged their outcomes."""

LONG_WORK = 1.0
"""Seconds of work from which on no record starts ahead of a free process."""

SMALL_BEFORE_LARGE = 4
"""Small files that may overtake a large file of the same owner before it gets its turn."""


class Waiting(Protocol):
    """The properties of a record that the lanes use."""

    @property
    def owner(self) -> Hashable | None:
        """Owner of the file; None for files without an owner, which have no owner limit."""

    @property
    def large(self) -> bool: ...

    @property
    def suspect(self) -> int:
        """Number of pods that died while processing it."""


W = TypeVar("W", bound=Waiting)


def places(workers: int, *, work: float, overhead: float) -> int:
    """Return how many records may be in progress at once to keep all worker processes busy.

    There is one process more than workers, for a small file or another owner's file. A record
    starts before a process takes it and finishes afterwards. During these `overhead` seconds the
    process would be idle unless other records have started meanwhile (Little's law). Long jobs do
    not start ahead of a process: they would wait as long, and the overhead is negligible.

    Args:
        work: seconds that a process needs per file, on average.
        overhead: seconds per file for the commit of its start and for acknowledgements.
    """
    processes = workers + 1
    if work >= LONG_WORK:
        return processes
    return processes + min(MAX_AHEAD, math.ceil(processes * overhead / work))


@dataclass
class _Share(Generic[W]):
    """The waiting records of one owner."""

    small: deque[W] = field(default_factory=deque)
    large: deque[W] = field(default_factory=deque)
    overtaken: int = 0
    """Small files started since the last large one."""

    def __bool__(self) -> bool:
        return bool(self.small or self.large)

    def pop(self, *, large_allowed: bool) -> W | None:
        large_first = not self.small or self.overtaken >= SMALL_BEFORE_LARGE
        if self.large and large_allowed and large_first:
            self.overtaken = 0
            return self.large.popleft()
        if not self.small:
            return None
        self.overtaken = self.overtaken + 1 if self.large else 0
        return self.small.popleft()


class Lanes(Generic[W]):
    """The waiting records, and counts of those in progress."""

    def __init__(self, *, large_limit: int, owner_limit: int | None = None) -> None:
        """Create empty lanes.

        Args:
            large_limit: large files that may be in progress at once.
            owner_limit: files of one owner that may be in progress at once; None: all slots but
                one.
        """
        self._large_limit = large_limit
        self._owner_limit = owner_limit
        self._shares: OrderedDict[Hashable | None, _Share[W]] = OrderedDict()
        self._suspects: list[W] = []
        self._waiting: set[W] = set()
        self._begun: set[W] = set()
        self._begun_of: dict[Hashable | None, int] = {}
        self._begun_large = 0
        self._begun_suspects = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, record: W) -> None:
        """Append a waiting record to its lane."""
        self._waiting.add(record)
        if record.suspect:
            self._suspects.append(record)
            return
        share = self._shares.setdefault(record.owner, _Share())
        (share.large if record.large else share.small).append(record)

    def begin(self, places: int, *, suspects: bool = True) -> W | None:
        """Return the next record to start, or None if no record or no slot is available.

        Args:
            places: number of slots.
            suspects: True if suspects may start yet.
        """
        while len(self._begun) < places:
            record = self._pick(places, suspects=suspects)
            if record is None:
                return None
            if record in self._waiting:  # Otherwise it was discarded while waiting.
                self._waiting.remove(record)
                self._count(record, 1)
                self._begun.add(record)
                return record
        return None

    def discard(self, record: W) -> None:
        """Remove a finished or released record and free its slot."""
        self._waiting.discard(record)
        if record in self._begun:
            self._begun.remove(record)
            self._count(record, -1)

    def _pick(self, places: int, *, suspects: bool) -> W | None:
        if suspects and self._suspects and not self._begun_suspects:
            # Fewest deaths first. If an external cause kills pods, no file is present each time. A
            # file that kills pods meets each of the others only once.
            return self._suspects.pop(min(range(len(self._suspects)), key=self._deaths_of))
        large_allowed = self._begun_large < self._large_limit
        owner_limit = max(1, places - 1) if self._owner_limit is None else self._owner_limit
        busy: list[tuple[int, int, Hashable | None]] = []
        for turn, owner in enumerate(self._shares):
            begun = self._begun_of.get(owner, 0)
            if begun == 0:  # No owner has less, and this one has waited the longest.
                if (record := self._pop(owner, large_allowed=large_allowed)) is not None:
                    return record
            elif owner is None or begun < owner_limit:
                busy.append((begun, turn, owner))
        for _, _, owner in sorted(busy, key=lambda each: each[:2]):
            if (record := self._pop(owner, large_allowed=large_allowed)) is not None:
                return record
        return None

    def _deaths_of(self, number: int) -> int:
        return self._suspects[number].suspect

    def _pop(self, owner: Hashable | None, *, large_allowed: bool) -> W | None:
        share = self._shares[owner]
        record = share.pop(large_allowed=large_allowed)
        if record is None:
            return None
        if share:
            self._shares.move_to_end(owner)
        else:
            del self._shares[owner]
        return record

    def _count(self, record: W, step: int) -> None:
        count = self._begun_of.get(record.owner, 0) + step
        if count:
            self._begun_of[record.owner] = count
        else:
            self._begun_of.pop(record.owner, None)
        self._begun_large += record.large and step
        self._begun_suspects += step if record.suspect else 0

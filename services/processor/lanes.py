"""Who is next: records that wait for a worker, in a fair order; a pure structure, no clock, no I/O.

One user's ten thousand scans must not starve another's one page. So the owners take turns, the one
with the least work in flight first; within an owner's share small files overtake large ones; and
neither the files of one owner nor the large files together may fill the last place, which stays
for somebody else's or for a small one.

A record is a suspect if a pod died while it worked on it: it may be what killed the pod. Suspects
are begun one at a time, so that an innocent neighbour is cleared and the guilty one takes nobody
along but what runs beside it for the first time.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

MAX_AHEAD = 128
"""Records that may be begun beyond the workers, whatever the measurements say: each counts as an
attempt if the pod dies. Files of no work pass at 3,000 a second, and are under way for 20 to 40 ms:
until a commit names them, and until Kafka has their outcomes."""

LONG_WORK = 1.0
"""Seconds of work from which on nothing is begun ahead of a free process."""

SMALL_BEFORE_LARGE = 4
"""Small files of one owner that overtake a large one of his before it has its turn."""


class Waiting(Protocol):
    """What the lanes need to know of a record."""

    @property
    def owner(self) -> Hashable | None:
        """Whose file it is; None for nobody's, which knows no limit of its own."""

    @property
    def large(self) -> bool: ...

    @property
    def suspect(self) -> int:
        """How often a pod died while it worked on it."""


W = TypeVar("W", bound=Waiting)


def places(workers: int, *, work: float, overhead: float) -> int:
    """How many records may be begun at once to keep all worker processes busy.

    Beside the workers there is one process more, for a small file or another owner's. A record is
    begun before a process takes it and finished after, by `overhead` seconds in all, in which the
    process has nothing to do unless others are begun meanwhile (Little's law). Long work is not
    begun ahead: it would wait for as long, and the overhead does not matter to it.

    Args:
        work: seconds a process needs for a file, on average.
        overhead: seconds around it, for the commit that names it and for the acknowledgements.
    """
    processes = workers + 1
    if work >= LONG_WORK:
        return processes
    return processes + min(MAX_AHEAD, math.ceil(processes * overhead / work))


@dataclass
class _Share(Generic[W]):
    """What waits of one owner."""

    small: deque[W] = field(default_factory=deque)
    large: deque[W] = field(default_factory=deque)
    overtaken: int = 0
    """Small files taken since the last large one."""

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
    """The records that wait, and the count of those that are begun."""

    def __init__(self, *, large_limit: int, owner_limit: int | None = None) -> None:
        """Args:
        large_limit: large files that may be begun at once.
        owner_limit: files of one owner that may be begun at once; None for all places but one.
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
        """Put a record at the end of its lane."""
        self._waiting.add(record)
        if record.suspect:
            self._suspects.append(record)
            return
        share = self._shares.setdefault(record.owner, _Share())
        (share.large if record.large else share.small).append(record)

    def begin(self, places: int, *, suspects: bool = True) -> W | None:
        """The next record to be begun, or None if there is none or no place for it.

        Args:
            places: how many may be begun at once.
            suspects: whether suspects may be begun yet.
        """
        while len(self._begun) < places:
            record = self._pick(places, suspects=suspects)
            if record is None:
                return None
            if record in self._waiting:  # Otherwise it was discarded while it waited.
                self._waiting.remove(record)
                self._count(record, 1)
                self._begun.add(record)
                return record
        return None

    def discard(self, record: W) -> None:
        """The record is finished or given back; its place is free."""
        self._waiting.discard(record)
        if record in self._begun:
            self._begun.remove(record)
            self._count(record, -1)

    def _pick(self, places: int, *, suspects: bool) -> W | None:
        if suspects and self._suspects and not self._begun_suspects:
            # Those over whom fewer pods died go first: where somebody kills pods, no file is there
            # each time, and one that kills them itself meets the others only once.
            return self._suspects.pop(min(range(len(self._suspects)), key=self._deaths_of))
        large_allowed = self._begun_large < self._large_limit
        owner_limit = max(1, places - 1) if self._owner_limit is None else self._owner_limit
        busy: list[tuple[int, int, Hashable | None]] = []
        for turn, owner in enumerate(self._shares):
            begun = self._begun_of.get(owner, 0)
            if begun == 0:  # Nobody has less, and this one's turn is the longest ago.
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

"""What one owner may upload in some time: a bucket that fills steadily and is emptied by uploads.

No clock: the time is an argument, in seconds. What is told late counts as of the latest time known.
"""

import math
from collections import OrderedDict

MOST_OWNERS = 10_000
"""Owners whose buckets are remembered, half a megabyte; who was not seen for longest is forgotten,
and his bucket is full again."""


class TokenBucket:
    """Buckets of one kind, one for each owner."""

    def __init__(self, *, size: float, seconds: float) -> None:
        """Args:
        size: what a full bucket has.
        seconds: how long an empty one takes to fill.
        """
        self.size = size
        self._rate = size / seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What each had, and when; a level below zero is paid back first."""

    def take(self, owner: str, amount: float, now: float) -> int:
        """Take so much, and return 0; or nothing, and return the seconds until it is there.

        More than a full bucket has is taken from a full one.
        """
        level = self._level(owner, now)
        needed = min(amount, self.size)
        if level < needed:
            return math.ceil((needed - level) / self._rate)
        self._set(owner, level - amount, now)
        return 0

    def give(self, owner: str, amount: float, now: float) -> None:
        """Put back what was taken for nothing; or take what was not known before, if negative."""
        self._set(owner, self._level(owner, now) + amount, now)

    def _level(self, owner: str, now: float) -> float:
        level, then = self._buckets.get(owner, (self.size, now))
        return min(self.size, level + max(0.0, now - then) * self._rate)

    def _set(self, owner: str, level: float, now: float) -> None:
        _, then = self._buckets.get(owner, (0.0, now))
        self._buckets[owner] = (min(self.size, level), max(now, then))
        self._buckets.move_to_end(owner)
        if len(self._buckets) > MOST_OWNERS:
            self._buckets.popitem(last=False)

"""Token buckets that limit how much each owner may upload.

The time is an argument, in seconds. Late reports count as of the latest known time.
"""

import math
from collections import OrderedDict

MAX_OWNERS = 10_000
"""Maximum owners in memory, about half a megabyte. The least recently seen owner is evicted and
starts again with a full bucket."""


class TokenBucket:
    """Token buckets of one kind, one per owner."""

    def __init__(self, *, size: float, seconds: float) -> None:
        """Initialize the buckets.

        Args:
            size: Tokens in a full bucket.
            seconds: Seconds in which an empty bucket fills.
        """
        self.size = size
        self._rate = size / seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Level of each bucket, and the time of that level. A negative level must refill first."""

    def take(self, owner: str, amount: float, now: float) -> int:
        """Take tokens.

        An amount above the bucket's size can be taken from a full bucket.

        Returns:
            0 if the tokens were taken, otherwise the seconds until they are available.
        """
        level = self._level(owner, now)
        needed = min(amount, self.size)
        if level < needed:
            return math.ceil((needed - level) / self._rate)
        self._set(owner, level - amount, now)
        return 0

    def refund(self, owner: str, amount: float, now: float) -> None:
        """Return unused tokens. A negative amount takes tokens that another pod reported."""
        self._set(owner, self._level(owner, now) + amount, now)

    def _level(self, owner: str, now: float) -> float:
        level, then = self._buckets.get(owner, (self.size, now))
        return min(self.size, level + max(0.0, now - then) * self._rate)

    def _set(self, owner: str, level: float, now: float) -> None:
        _, then = self._buckets.get(owner, (0.0, now))
        self._buckets[owner] = (min(self.size, level), max(now, then))
        self._buckets.move_to_end(owner)
        if len(self._buckets) > MAX_OWNERS:
            self._buckets.popitem(last=False)

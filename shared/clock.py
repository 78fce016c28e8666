"""The Kafka brokers' clock, which all pods use as their common time.

Timestamps order and delay work: when a retry is due, when a file started and ended, how old an id
is. Each process therefore corrects its clock with the timestamps that it gets from Kafka. The
acknowledgement of a record carries the time at which the broker appended it, which lies between
sending and acknowledgement. A consumed record was appended before now. Differences below
`TOLERATED` are ignored.
"""

import logging
import time

log = logging.getLogger(__name__)

TOLERATED = 1.0
"""Seconds of skew that are ignored. Network, event loop and NTP cause less."""

NOTEWORTHY = 5.0
"""Seconds of skew from which `/health/ready` reports it: an operator should set that clock."""

LOG_APPEND_TIME = 1
"""Kafka's timestamp type for a time set by the broker instead of the producer."""

KEPT = 300.0
"""Seconds for which the most precise measurement is kept. Clocks drift and are adjusted."""


class BrokerClock:
    """Estimates the offset of the brokers' clock from the local clock."""

    def __init__(self) -> None:
        self._low, self._high = float("-inf"), float("inf")
        """Seconds. Lower and upper bound of the offset."""
        self._measured_at = float("-inf")
        self.offset = 0.0
        """Seconds to add to the local clock; 0 while it is right or nothing is known."""

    def acknowledged(self, appended: float, *, sent: float, received: float) -> None:
        """Update the estimate from the acknowledgement of a record.

        Args:
            appended: Unix seconds at which the broker appended the record, by its own clock.
            sent, received: Unix seconds by the local clock.
        """
        low, high = appended - received, appended - sent
        if high < low:
            return  # The local clock was set back in between.
        now = time.monotonic()
        is_sharper = high - low <= self._high - self._low
        contradicts = low > self._high or high < self._low
        if is_sharper or contradicts or now - self._measured_at > KEPT:
            self._low, self._high, self._measured_at = low, high, now
            self._settle()

    def was_read(self, appended: float, *, at: float) -> None:
        """Update the estimate from a consumed record: the broker's clock is at least its time.

        Args:
            appended: as in `acknowledged`.
            at: Unix seconds by the local clock.
        """
        low = appended - at
        if low > self._low and low > TOLERATED:
            self._low, self._high = low, max(low, self._high)
            self._settle()

    @property
    def skew(self) -> float:
        """Seconds by which the local clock is ahead of the brokers'; negative if it is behind."""
        return -self.offset

    @property
    def note(self) -> str | None:
        """Return a warning for operators, or None if the clock is right."""
        if abs(self.offset) < NOTEWORTHY:
            return None
        way = "behind" if self.offset > 0 else "ahead of"
        return (
            f"this machine's clock is {abs(self.offset):.0f} s {way} Kafka's; times are corrected "
            "by this offset: set the clock and run NTP"
        )

    def _settle(self) -> None:
        before = self.offset
        if self._low > TOLERATED:
            # With a lower bound only, it is the best estimate.
            middle = self._low if self._high == float("inf") else (self._low + self._high) / 2
            self.offset = middle
        elif self._high < -TOLERATED:
            self.offset = (self._low + self._high) / 2
        else:
            self.offset = 0.0
        if abs(self.offset - before) > NOTEWORTHY:
            log.warning(
                "this machine's clock is estimated to be %.1f s ahead of Kafka's", self.skew
            )


CLOCK = BrokerClock()
"""The estimate of this process. A machine has one clock, so all parts of the process share it."""


def now_ns() -> int:
    """Return nanoseconds since the epoch, corrected to the brokers' clock."""
    return time.time_ns() + int(CLOCK.offset * 1_000_000_000)

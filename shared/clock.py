"""The time, as Kafka's brokers have it: pods whose clocks disagree agree on that one.

Times order and delay work: when a retry is due, when a file began and ended, how old an id is. So
this process corrects its own clock by what it learns from Kafka. The acknowledgement of a record
has the time at which the broker appended it, which lies between sending and acknowledgement. A
record that is read was appended before now. A difference below `TOLERATED` is left alone.
"""

import logging
import time

log = logging.getLogger(__name__)

TOLERATED = 1.0
"""Seconds by which a clock may be wrong: network, event loop and NTP make less of a difference."""

NOTEWORTHY = 5.0
"""Seconds of skew from which on `/health/ready` says so: somebody should set that clock."""

LOG_APPEND_TIME = 1
"""What Kafka calls a time that the broker gave a record, and not the one who wrote it."""

KEPT = 300.0
"""Seconds for which the sharpest measurement counts; clocks drift, and are set."""


class BrokerClock:
    """The offset of the brokers' clock from this machine's, as far as it is known."""

    def __init__(self) -> None:
        self._low, self._high = float("-inf"), float("inf")
        """Seconds: between these the offset lies."""
        self._measured_at = float("-inf")
        self.offset = 0.0
        """Seconds to add to this machine's clock; 0 while it is right or nothing is known."""

    def acknowledged(self, appended: float, *, sent: float, received: float) -> None:
        """Learn from the acknowledgement of a record.

        Args:
            appended: when the broker stored the record, in Unix seconds by its own clock.
            sent, received: Unix seconds by this machine's clock.
        """
        low, high = appended - received, appended - sent
        if high < low:
            return  # This machine's clock was set back meanwhile.
        now = time.monotonic()
        is_sharper = high - low <= self._high - self._low
        contradicts = low > self._high or high < self._low
        if is_sharper or contradicts or now - self._measured_at > KEPT:
            self._low, self._high, self._measured_at = low, high, now
            self._settle()

    def was_read(self, appended: float, *, at: float) -> None:
        """Learn from a record that was read: the broker's clock is not behind its time.

        Args:
            appended: as of `acknowledged`.
            at: Unix seconds by this machine's clock.
        """
        low = appended - at
        if low > self._low and low > TOLERATED:
            self._low, self._high = low, max(low, self._high)
            self._settle()

    @property
    def skew(self) -> float:
        """Seconds by which this machine's clock is ahead of the brokers'; negative: behind."""
        return -self.offset

    @property
    def note(self) -> str | None:
        """What an operator should know of the clock; None if it is right."""
        if abs(self.offset) < NOTEWORTHY:
            return None
        way = "behind" if self.offset > 0 else "ahead of"
        return (
            f"this machine's clock is {abs(self.offset):.0f} s {way} Kafka's; times are corrected "
            "by that: set the clock, and run NTP"
        )

    def _settle(self) -> None:
        before = self.offset
        if self._low > TOLERATED:
            # Of a lower bound alone nothing else is known.
            middle = self._low if self._high == float("inf") else (self._low + self._high) / 2
            self.offset = middle
        elif self._high < -TOLERATED:
            self.offset = (self._low + self._high) / 2
        else:
            self.offset = 0.0
        if abs(self.offset - before) > NOTEWORTHY:
            log.warning(
                "this machine's clock is now taken to be %.1f s ahead of Kafka's", self.skew
            )


CLOCK = BrokerClock()
"""This process's: a machine has one clock, and so has everything that runs in this process."""


def now_ns() -> int:
    """Nanoseconds since the epoch, corrected by what is known of the brokers' clock."""
    return time.time_ns() + int(CLOCK.offset * 1_000_000_000)

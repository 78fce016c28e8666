"""What to do after a failed attempt: a pure decision, the time and the chance are arguments."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.events.topics import RetryTier, tier_for

MACHINE_LIMIT = 60.0
"""Seconds that the wait for room on a disk, or for the blob store, never exceeds: work goes on soon
after somebody has made room."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next attempt, in seconds."""

    first: float
    """The longest wait before the second attempt; it doubles with every later one."""
    limit: float
    """What the wait never exceeds."""

    def wait_for_machine(self, postponed: int, chance: float) -> timedelta:
        """Return the wait after so many attempts in a row that the machine's faults have cost.

        Args:
            chance: a random number from 0 to 1.
        """
        longest = min(self.limit, MACHINE_LIMIT, self.first * 2.0 ** min(postponed, 60))
        return timedelta(seconds=longest * (1 + chance) / 2)

    def wait(self, failures: int, chance: float) -> timedelta:
        """The wait after so many failed attempts, exponential with full jitter.

        Full jitter, after Marc Brooker's "Exponential Backoff And Jitter" (AWS, 2015), spreads the
        load of many files that failed together best.

        Args:
            chance: a random number from 0 to 1.
        """
        longest = min(self.limit, self.first * 2.0 ** min(failures - 1, 60))
        return timedelta(seconds=longest * chance)


@dataclass(frozen=True)
class RetryAt:
    """Try again, not before `due_at`, by way of the delay tier `tier`."""

    due_at: datetime
    tier: RetryTier


@dataclass(frozen=True)
class GiveUp:
    """The file has failed."""


def decide(
    *,
    retryable: bool,
    attempt: int,
    max_attempts: int,
    returned: int,
    postponed: int | None = None,
    backoff: Backoff,
    chance: float,
    now: datetime,
) -> RetryAt | GiveUp:
    """What follows a failed attempt.

    Args:
        returned: of the attempts until now, those that were handed back, which is no failure.
        postponed: None if the attempt counts; else how many before it, in a row, did not count.
    """
    if postponed is not None:
        wait = backoff.wait_for_machine(postponed, chance)
        return RetryAt(due_at=now + wait, tier=tier_for(wait))
    if not retryable or attempt >= max_attempts:
        return GiveUp()
    wait = backoff.wait(attempt - returned, chance)
    return RetryAt(due_at=now + wait, tier=tier_for(wait))

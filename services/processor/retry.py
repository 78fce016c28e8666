"""Decide what follows a failed attempt: a pure decision; time and randomness are arguments."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.events.topics import RetryTier, tier_for

MACHINE_LIMIT = 60.0
"""Longest wait in seconds while a disk is full or the blob store is unavailable. Work resumes soon
after the cause is fixed."""


@dataclass(frozen=True)
class Backoff:
    """The wait before the next attempt, in seconds."""

    first: float
    """Longest wait before the second attempt; doubled for each later one."""
    limit: float
    """Upper bound of every wait."""

    def wait_for_machine(self, postponed: int, chance: float) -> timedelta:
        """Return the wait after consecutive attempts that failed because of the machine.

        Args:
            postponed: number of those attempts.
            chance: a random number from 0 to 1.
        """
        longest = min(self.limit, MACHINE_LIMIT, self.first * 2.0 ** min(postponed, 60))
        return timedelta(seconds=longest * (1 + chance) / 2)

    def wait(self, failures: int, chance: float) -> timedelta:
        """Return the wait after failed attempts: exponential backoff with full jitter.

        Full jitter spreads the load best when many files fail together (Marc Brooker, "Exponential
        Backoff And Jitter", AWS, 2015).

        Args:
            failures: number of failed attempts.
            chance: a random number from 0 to 1.
        """
        longest = min(self.limit, self.first * 2.0 ** min(failures - 1, 60))
        return timedelta(seconds=longest * chance)


@dataclass(frozen=True)
class RetryAt:
    """Retry through the delay tier `tier`, not before `due_at`."""

    due_at: datetime
    tier: RetryTier


@dataclass(frozen=True)
class GiveUp:
    """The file has failed permanently."""


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
    """Decide what follows a failed attempt.

    Args:
        returned: attempts so far that were released and do not count as failures.
        postponed: None if the attempt counts; otherwise the number of consecutive attempts before
            it that did not count.
    """
    if postponed is not None:
        wait = backoff.wait_for_machine(postponed, chance)
        return RetryAt(due_at=now + wait, tier=tier_for(wait))
    if not retryable or attempt >= max_attempts:
        return GiveUp()
    wait = backoff.wait(attempt - returned, chance)
    return RetryAt(due_at=now + wait, tier=tier_for(wait))

"""A pure function decides what follows a failed attempt."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.processor.retry import Backoff, GiveUp, RetryAt, decide
from shared.events.topics import RETRY_TIERS, tier_for
from tests.support.builders import START

BACKOFF = Backoff(first=2, limit=3600)


def decided(
    *, attempt: int = 1, returned: int = 0, retryable: bool = True, chance: float = 1.0
) -> RetryAt | GiveUp:
    return decide(
        retryable=retryable,
        attempt=attempt,
        max_attempts=3,
        returned=returned,
        backoff=BACKOFF,
        chance=chance,
        now=START,
    )


def test_a_permanent_error_is_given_up_at_once() -> None:
    assert decided(retryable=False) == GiveUp()


def test_the_last_attempt_is_given_up() -> None:
    assert decided(attempt=3) == GiveUp()


def test_the_longest_wait_doubles_with_every_attempt() -> None:
    first, second = decided(attempt=1), decided(attempt=2)
    assert isinstance(first, RetryAt)
    assert isinstance(second, RetryAt)
    assert (first.due_at, second.due_at) == (
        START + timedelta(seconds=2),
        START + timedelta(seconds=4),
    )


def test_an_attempt_that_was_handed_back_does_not_lengthen_the_wait() -> None:
    assert decided(attempt=2, returned=1) == decided(attempt=1)


def test_the_jitter_is_full() -> None:
    soonest = decided(chance=0.0)
    assert isinstance(soonest, RetryAt)
    assert soonest.due_at == START


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_the_wait_never_exceeds_its_limit(attempt: int, chance: float) -> None:
    assert timedelta(0) <= BACKOFF.wait(attempt, chance) <= timedelta(seconds=3600)


@given(st.floats(0, 3600))
def test_a_tier_covers_the_wait(seconds: float) -> None:
    wait = timedelta(seconds=seconds)
    tier = tier_for(wait)
    assert wait <= tier.delay
    shorter = [each for each in RETRY_TIERS if each.delay < tier.delay]
    assert all(each.delay < wait for each in shorter)

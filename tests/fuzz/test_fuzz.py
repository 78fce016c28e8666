"""A short fuzz of a whole Waybill; `make fuzz` is the long one."""

from tests.fuzz.__main__ import fuzz
from tests.fuzz.requests import connections
from tests.support.stack import RunningStack


def test_raw_requests_are_answered_once_in_time_and_without_a_5xx(stack: RunningStack) -> None:
    faults = fuzz(stack, count=1000, seed=19, tell=False)

    assert not faults, "\n".join(faults[:10])


def test_the_same_seed_makes_the_same_requests() -> None:
    assert connections(1, 500) == connections(1, 500)
    assert connections(1, 500) != connections(2, 500)

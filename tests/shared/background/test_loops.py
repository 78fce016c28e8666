"""The rules that assess the health of a background loop, with the time as an argument."""

import pytest

from shared.background.loops import (
    FIRST_DELAY,
    LONGEST_DELAY,
    MAX_BUGS,
    Loop,
    LoopHealth,
    Verdict,
    backoff,
)


def loop(*, vital: bool = True, restartable: bool = True) -> Loop:
    return Loop(
        name="counting",
        late_after=10,
        vital=vital,
        restartable=restartable,
        purpose="Counts.",
        when_late="Counts are old.",
    )


def test_a_loop_is_late_once_its_last_success_is_too_long_ago() -> None:
    health = LoopHealth(loop(), now=100)
    assert not health.is_late(110)  # The start counts as a success.
    assert health.is_late(110.1)
    health.succeeded(111)
    assert not health.is_late(121)
    assert health.is_late(122)


def test_a_late_loop_is_described_by_its_name_and_by_how_late_it_is() -> None:
    health = LoopHealth(loop(), now=0)
    health.failed("TimeoutError", is_outage=True)
    assert health.describe(47) == (
        "the loop counting is late: its last success was 47 s ago, expected within 10 s;"
        " TimeoutError"
    )
    health.waits("MongoDB", 50)
    assert health.describe(51).endswith("it waits for MongoDB")


def test_outages_never_end_the_pod_and_bugs_in_a_row_do() -> None:
    health = LoopHealth(loop(), now=0)
    for _ in range(100):
        assert health.failed("OSError", is_outage=True) is Verdict.RESTART
    for _ in range(MAX_BUGS - 1):
        assert health.failed("KeyError", is_outage=False) is Verdict.RESTART
    assert health.failed("KeyError", is_outage=False) is Verdict.END_POD


def test_a_success_forgets_the_failures_before_it() -> None:
    health = LoopHealth(loop(), now=0)
    for _ in range(3 * MAX_BUGS):
        assert health.failed("KeyError", is_outage=False) is Verdict.RESTART
        health.succeeded(1)
    assert health.failures == 0


def test_a_loop_that_is_not_vital_is_restarted_for_ever() -> None:
    health = LoopHealth(loop(vital=False), now=0)
    verdicts = {health.failed("KeyError", is_outage=False) for _ in range(10 * MAX_BUGS)}
    assert verdicts == {Verdict.RESTART}


def test_a_loop_that_cannot_be_restarted_ends_the_pod_at_once() -> None:
    health = LoopHealth(loop(restartable=False), now=0)
    assert health.failed("OSError", is_outage=True) is Verdict.END_POD


def test_a_loop_that_waits_for_a_part_lives_and_is_late_all_the_same() -> None:
    health = LoopHealth(loop(), now=0)
    before = health.hangs_at()
    health.waits("MongoDB", 25)
    assert health.hangs_at() == before + 25
    assert health.is_late(25)


def test_a_loop_waits_only_as_long_as_it_says_so() -> None:
    health = LoopHealth(loop(), now=0)
    health.waits("MongoDB", 25)
    assert health.is_waiting(25 + loop().hung_after)
    assert not health.is_waiting(25.1 + loop().hung_after)
    assert "MongoDB" not in health.describe(25.1 + loop().hung_after)


def test_a_failure_ends_what_a_loop_waited_for() -> None:
    health = LoopHealth(loop(), now=0)
    health.waits("MongoDB", 25)
    health.failed("TypeError", is_outage=False)
    assert not health.is_waiting(25)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_delays_double_up_to_the_longest_and_carry_jitter(chance: float) -> None:
    delays = [backoff(failures, chance) for failures in range(1, 50)]
    assert delays[0] == FIRST_DELAY * (0.5 + chance / 2)
    assert delays[1] == 2 * delays[0]
    assert delays[-1] == LONGEST_DELAY * (0.5 + chance / 2)
    assert delays == sorted(delays)

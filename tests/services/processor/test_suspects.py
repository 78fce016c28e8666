"""Which files are blamed for pod deaths, simulated with the real ledger and lanes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.processor.lanes import Lanes
from services.processor.offsets import SUSPICIOUS, Begun, PartitionWindow

MAX_ATTEMPTS = 3
PLACES = 3


@dataclass(eq=False)
class Taken:
    offset: int
    suspect: int
    owner: str | None = None
    large: bool = False


@dataclass
class Pod:
    """One life of a pod with one partition: `in_flight` without Kafka and workers."""

    window: PartitionWindow
    lanes: Lanes[Taken] = field(default_factory=lambda: Lanes[Taken](large_limit=2))
    taken: dict[int, Taken] = field(default_factory=dict)
    begun: dict[int, Taken] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    suspicious: set[int] = field(default_factory=set)

    def accept(self, offsets: Collection[int]) -> None:
        for offset in offsets:
            if self.window.accept(offset):
                before = self.window.begun.get(offset, Begun())
                self.taken[offset] = Taken(offset, before.deaths)
                self.lanes.add(self.taken[offset])
                if before.deaths >= SUSPICIOUS:
                    self.suspicious.add(offset)

    def begin(self) -> None:
        while (taken := self.lanes.begin(PLACES)) is not None:
            before = self.window.begin(taken.offset)
            many = bool(self.suspicious - {taken.offset})
            released = before.returned + before.forgiven(many_suspects=many)
            if 1 + before.attempts > MAX_ATTEMPTS + released:
                self.failed.add(taken.offset)
                self.finish(taken.offset)
            else:
                self.begun[taken.offset] = taken

    def finish(self, offset: int) -> None:
        self.window.finish(offset)
        self.lanes.discard(self.taken.pop(offset))
        self.begun.pop(offset, None)


@dataclass
class Outcome:
    deaths: int
    failed: set[int]
    completed: set[int]


def run(
    files: int,
    killers: Collection[int],
    *,
    returning: Callable[[int], bool] = lambda _: False,
    kills: int = 0,
    most: int = 100,
) -> Outcome:
    """Process the files until all have ended.

    Args:
        killers: files that kill their pod.
        returning: returns True if the pod of this life, by its number, released its work in time.
        kills: number of pods killed externally as soon as their slots are full, before all others.
    """
    outcome = Outcome(0, set(), set())
    committed, ledger = 0, ""
    for life in range(most):
        pod = Pod(PartitionWindow.restore(committed, ledger))
        pod.accept(range(committed, files))
        pod.begin()
        if life >= kills:
            while pod.begun and not killers & pod.begun.keys():
                for offset in list(pod.begun):
                    outcome.completed.add(offset)
                    pod.finish(offset)
                pod.begin()
        outcome.failed |= pod.failed
        if not pod.begun:
            assert not pod.taken
            return outcome
        outcome.deaths += 1
        committed = pod.window.watermark
        ledger = pod.window.ledger(returning=returning(life))
    raise AssertionError(f"still at work after {most} deaths")


@pytest.mark.parametrize("killer", range(9))
def test_one_killer_ends_after_as_many_deaths_as_it_may_have_attempts(killer: int) -> None:
    outcome = run(9, {killer})
    assert outcome.failed == {killer}
    assert outcome.deaths == MAX_ATTEMPTS
    assert outcome.completed == set(range(9)) - {killer}


def test_a_killer_that_is_alone_ends_as_soon() -> None:
    outcome = run(1, {0})
    assert (outcome.failed, outcome.deaths) == ({0}, MAX_ATTEMPTS)


@given(st.sets(st.integers(0, 11), min_size=1, max_size=4))
def test_several_killers_end_and_take_nobody_along(killers: set[int]) -> None:
    outcome = run(12, killers)
    assert outcome.failed == killers
    assert outcome.deaths <= (MAX_ATTEMPTS + 1) * len(killers)


@pytest.mark.parametrize("kills", range(18))
def test_pods_that_are_killed_again_and_again_fail_none_of_eight_files(kills: int) -> None:
    outcome = run(8, set(), kills=kills)
    assert outcome.failed == set()
    assert len(outcome.completed) == 8


def test_pods_that_are_drained_fail_nothing_however_many_they_are() -> None:
    outcome = run(3, set(), kills=90, returning=lambda _: True)
    assert outcome.failed == set()


@given(st.sets(st.integers(0, 89)))
def test_drains_between_the_deaths_clear_nobody_and_blame_nobody(drained: set[int]) -> None:
    outcome = run(9, {4}, returning=lambda life: life in drained)
    assert outcome.failed == {4}
    deaths = [life for life in range(outcome.deaths) if life not in drained]
    assert len(deaths) == MAX_ATTEMPTS


def test_a_killer_is_found_although_somebody_kills_pods_as_well() -> None:
    outcome = run(9, {4}, kills=5)
    assert outcome.failed == {4}


def test_the_first_death_is_forgiven_and_the_second_is_not() -> None:
    assert Begun(1, 0).forgiven(many_suspects=False) == 1
    assert Begun(2, 0).forgiven(many_suspects=False) == 0
    assert Begun(2, 0).forgiven(many_suspects=True) == 1
    assert Begun(3, 2).forgiven(many_suspects=False) == 1
    assert Begun(0, 1).deaths == 0

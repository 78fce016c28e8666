"""Waiting records start in a fair order."""

from collections import Counter
from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.processor.lanes import MAX_AHEAD, SMALL_BEFORE_LARGE, Lanes, places


@dataclass(eq=False)
class File:
    owner: str | None = None
    large: bool = False
    suspect: bool = False


def begun(lanes: Lanes[File], places: int) -> list[File]:
    """Return all records that may start now."""
    records = []
    while (record := lanes.begin(places)) is not None:
        records.append(record)
    return records


def test_ten_thousand_files_of_one_owner_do_not_hold_up_one_of_another() -> None:
    lanes = Lanes[File](large_limit=2)
    scans = [File("ada") for _ in range(10_000)]
    page = File("ben")
    for record in (*scans, page):
        lanes.add(record)
    assert page in begun(lanes, 3)


def test_one_owner_never_fills_the_last_place() -> None:
    lanes = Lanes[File](large_limit=2)
    for _ in range(5):
        lanes.add(File("ada"))
    assert len(begun(lanes, 3)) == 2
    page = File("ben")
    lanes.add(page)
    assert begun(lanes, 3) == [page]


def test_files_of_nobody_may_fill_every_place() -> None:
    lanes = Lanes[File](large_limit=2)
    for _ in range(5):
        lanes.add(File())
    assert len(begun(lanes, 3)) == 3


def test_an_owner_has_no_more_in_flight_than_his_limit() -> None:
    lanes = Lanes[File](large_limit=2, owner_limit=2)
    files = [File("ada") for _ in range(5)]
    for record in files:
        lanes.add(record)
    assert begun(lanes, 10) == files[:2]
    lanes.discard(files[0])
    assert begun(lanes, 10) == [files[2]]


def test_large_files_leave_a_place_for_a_small_one() -> None:
    lanes = Lanes[File](large_limit=2)
    for _ in range(5):
        lanes.add(File(large=True))
    assert len(begun(lanes, 3)) == 2
    small = File()
    lanes.add(small)
    assert begun(lanes, 3) == [small]


def test_small_files_overtake_large_ones_and_do_not_starve_them() -> None:
    lanes = Lanes[File](large_limit=2)
    large = File(large=True)
    lanes.add(large)
    for _ in range(3 * SMALL_BEFORE_LARGE):
        lanes.add(File())
    assert begun(lanes, 100).index(large) == SMALL_BEFORE_LARGE


def test_an_owner_whose_large_file_must_wait_holds_up_nobody() -> None:
    lanes = Lanes[File](large_limit=2)
    for _ in range(2):
        lanes.add(File("ada", large=True))
    assert len(begun(lanes, 3)) == 2
    small = File("cleo")
    lanes.add(File("ben", large=True))
    lanes.add(small)
    assert begun(lanes, 3) == [small]


def test_suspects_are_begun_first_and_one_at_a_time() -> None:
    lanes = Lanes[File](large_limit=2)
    suspects = [File(suspect=True), File(suspect=True)]
    innocent = File()
    for record in (innocent, *suspects):
        lanes.add(record)
    assert begun(lanes, 10) == [suspects[0], innocent]
    lanes.discard(suspects[0])
    assert begun(lanes, 10) == [suspects[1]]


def test_a_record_that_was_discarded_while_it_waited_is_never_begun() -> None:
    lanes = Lanes[File](large_limit=2)
    gone, stays = File(), File()
    lanes.add(gone)
    lanes.add(stays)
    lanes.discard(gone)
    assert begun(lanes, 10) == [stays]
    assert len(lanes) == 0


def test_more_are_begun_ahead_the_shorter_the_work() -> None:
    assert places(2, work=60.0, overhead=0.01) == 3
    assert places(2, work=0.05, overhead=0.005) == 4
    assert places(2, work=0.01, overhead=0.01) == 6
    assert places(2, work=0.0001, overhead=0.01) == 3 + MAX_AHEAD


OWNERS = st.sampled_from([None, "ada", "ben", "cleo"])


@given(
    st.lists(st.builds(File, owner=OWNERS, large=st.booleans(), suspect=st.booleans())),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_whatever_waits_is_begun_once_and_within_the_places(
    files: list[File], workers: int, chance: Random
) -> None:
    lanes = Lanes[File](large_limit=workers)
    in_flight: list[File] = []
    seen: list[File] = []
    waiting = list(files)
    while waiting or in_flight or len(lanes):
        if waiting and chance.random() < 0.5:
            lanes.add(waiting.pop(0))
        started = begun(lanes, workers + 1)
        seen += started
        in_flight += started
        assert len(in_flight) <= workers + 1
        calm = [each for each in in_flight if not each.suspect]
        owners = Counter(each.owner for each in calm if each.owner is not None)
        assert all(count <= workers for count in owners.values())
        assert sum(each.large for each in calm) <= workers
        assert sum(each.suspect for each in in_flight) <= 1
        if in_flight and (not waiting or chance.random() < 0.5):
            lanes.discard(in_flight.pop(chance.randrange(len(in_flight))))
    assert len(seen) == len(files)
    assert set(seen) == set(files)

"""A partition window commits the low watermark and passes its ledger on."""

from hypothesis import given
from hypothesis import strategies as st

from services.processor.offsets import MAX_LEDGER, Begun, PartitionWindow


def test_the_commit_never_passes_an_unfinished_record() -> None:
    window = PartitionWindow(next=10)
    for offset in (10, 11, 12):
        assert window.accept(offset)
    window.finish(11)
    window.finish(12)
    assert window.watermark == 10
    window.finish(10)
    assert window.watermark == 13


def test_a_record_is_taken_once() -> None:
    window = PartitionWindow(next=0)
    assert window.accept(0)
    assert not window.accept(0)


def test_a_pod_that_takes_over_skips_what_is_finished_and_counts_what_was_begun() -> None:
    window = PartitionWindow(next=0)
    for offset in range(5):
        window.accept(offset)
    window.begin(0)
    window.begin(1)
    window.finish(1)
    heir = PartitionWindow.restore(window.watermark, window.ledger())
    assert [offset for offset in range(5) if heir.accept(offset)] == [0, 2, 3, 4]
    assert heir.begin(0) == Begun(attempts=1, returned=0, interrupted=True)
    assert heir.begin(2) == Begun()


def test_an_attempt_given_back_in_good_order_is_told_from_one_cut_off() -> None:
    window = PartitionWindow(next=0)
    window.accept(0)
    window.begin(0)
    heir = PartitionWindow.restore(0, window.ledger(returning=True))
    heir.accept(0)
    assert heir.begin(0) == Begun(attempts=1, returned=1, interrupted=False)


def test_an_attempt_cut_off_stays_so_until_the_record_is_begun_again() -> None:
    window = PartitionWindow(next=0)
    window.accept(0)
    window.begin(0)
    heir = PartitionWindow.restore(0, window.ledger())
    heir.accept(0)
    second_heir = PartitionWindow.restore(0, heir.ledger(returning=True))
    second_heir.accept(0)
    assert second_heir.begin(0) == Begun(attempts=1, returned=0, interrupted=True)
    third_heir = PartitionWindow.restore(0, second_heir.ledger())
    assert third_heir.begun[0] == Begun(attempts=2, returned=0, interrupted=True)


def test_metadata_of_another_program_is_no_ledger() -> None:
    for metadata in (
        "",
        "hello",
        "[]",
        '{"f": 1}',
        '{"b": [[1]]}',
        '{"t": 3, "o": "!"}',
        '{"t": ""}',
    ):
        heir = PartitionWindow.restore(7, metadata)
        assert heir.accept(7)
        assert heir.begin(7) == Begun()


@given(
    st.sets(st.integers(0, 60), min_size=1),
    st.lists(st.integers(0, 60), max_size=80),
)
def test_any_order_of_completion_commits_all_and_only_what_is_finished(
    offsets: set[int], finishes: list[int]
) -> None:
    window = PartitionWindow(next=0)
    done: set[int] = set()
    for offset in sorted(offsets):
        assert window.accept(offset)
    for offset in finishes:
        if offset in window.in_flight:
            window.begin(offset)
            window.finish(offset)
            done.add(offset)
        assert all(earlier in done for earlier in offsets if earlier < window.watermark)
        heir = PartitionWindow.restore(window.watermark, window.ledger())
        assert {o for o in sorted(offsets) if o >= window.watermark and heir.accept(o)} == (
            offsets - done
        )
    if done == offsets:
        assert window.watermark == max(offsets) + 1


@given(st.data())
def test_any_chain_of_pods_repeats_nothing_finished_and_skips_nothing_open(
    data: st.DataObject,
) -> None:
    """Pods come and go; each finishes some records, and dies or releases the rest."""
    end = 40
    finished: set[int] = set()
    committed, ledger = 0, ""
    for _ in range(data.draw(st.integers(1, 5))):
        window = PartitionWindow.restore(committed, ledger)
        taken_until = data.draw(st.integers(committed, end))
        for offset in range(committed, taken_until):
            assert window.accept(offset) == (offset not in finished)
        for offset in data.draw(st.permutations(sorted(window.in_flight))):
            if data.draw(st.booleans()):
                window.begin(offset)
                if data.draw(st.booleans()):
                    window.finish(offset)
                    finished.add(offset)
        committed, ledger = window.watermark, window.ledger(returning=data.draw(st.booleans()))
        assert set(range(committed)) <= finished


def test_one_slow_record_may_have_any_number_of_finished_ones_behind_it() -> None:
    window = PartitionWindow(next=0)
    window.accept(0)
    window.begin(0)
    for offset in range(1, 100_000):
        window.accept(offset)
        window.finish(offset)
    assert len(window.ledger()) < 100
    heir = PartitionWindow.restore(0, window.ledger())
    assert [offset for offset in range(100_001) if heir.accept(offset)] == [0, 100_000]


@given(st.integers(0, 2**40), st.lists(st.integers(1, 100_000), max_size=1000), st.integers(0, 300))
def test_the_ledger_fits_on_a_commit_whatever_is_open_and_begun(
    first: int, gaps: list[int], begun: int
) -> None:
    window = PartitionWindow(next=first)
    offsets = [first]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    for offset in (*offsets, offsets[-1] + 1):
        window.accept(offset)
    for offset in offsets[:begun]:
        window.begin(offset)
        window.begin(offset)
    window.finish(offsets[-1] + 1)
    assert len(window.ledger()) <= MAX_LEDGER
    assert len(window.ledger(returning=True)) <= MAX_LEDGER


def test_a_ledger_that_would_not_fit_gives_up_what_only_saves_work() -> None:
    window = PartitionWindow(next=0)
    for offset in range(0, 2_000_000, 1000):
        window.accept(offset)
    window.accept(2_000_000)
    window.finish(2_000_000)
    window.begin(0)
    heir = PartitionWindow.restore(0, window.ledger())
    assert heir.begun[0].attempts == 1
    assert heir.accept(2_000_000)

"""The window of a partition commits the low watermark and hands its ledger on."""

from hypothesis import given
from hypothesis import strategies as st

from services.processor.offsets import MAX_LEDGER, Begun, PartitionWindow


def test_the_commit_never_passes_an_unfinished_record() -> None:
    window = PartitionWindow(next=10)
    for offset in (10, 11, 12):
        assert window.take(offset)
    window.finish(11)
    window.finish(12)
    assert window.watermark == 10
    window.finish(10)
    assert window.watermark == 13


def test_a_record_is_taken_once() -> None:
    window = PartitionWindow(next=0)
    assert window.take(0)
    assert not window.take(0)


def test_a_pod_that_takes_over_skips_what_is_finished_and_counts_what_was_begun() -> None:
    window = PartitionWindow(next=0)
    for offset in range(5):
        window.take(offset)
    window.begin(0)
    window.begin(1)
    window.finish(1)
    heir = PartitionWindow.restore(window.watermark, window.ledger())
    assert [offset for offset in range(5) if heir.take(offset)] == [0, 2, 3, 4]
    assert heir.begin(0) == Begun(attempts=1, returned=0)
    assert heir.begin(2) == Begun()


def test_an_attempt_given_back_in_good_order_is_told_from_one_cut_off() -> None:
    window = PartitionWindow(next=0)
    window.take(0)
    window.begin(0)
    heir = PartitionWindow.restore(0, window.ledger(returning=True))
    heir.take(0)
    assert heir.begin(0) == Begun(attempts=1, returned=1)


def test_metadata_of_another_program_is_no_ledger() -> None:
    for metadata in ("", "hello", "[]", '{"f": 1}', '{"b": [[1]]}'):
        assert PartitionWindow.restore(7, metadata) == PartitionWindow(next=7)


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
        assert window.take(offset)
    for offset in finishes:
        if offset in window.in_flight:
            window.begin(offset)
            window.finish(offset)
            done.add(offset)
        assert all(earlier in done for earlier in offsets if earlier < window.watermark)
        heir = PartitionWindow.restore(window.watermark, window.ledger())
        assert {o for o in sorted(offsets) if o >= window.watermark and heir.take(o)} == (
            offsets - done
        )
    if done == offsets:
        assert window.watermark == max(offsets) + 1


def test_the_ledger_of_a_full_window_fits_on_a_commit() -> None:
    window = PartitionWindow(next=10**12)
    for offset in range(10**12, 10**12 + 256):
        window.take(offset)
        window.begin(offset)
        window.begin(offset)
        if offset % 2 and offset > 10**12 + 1:
            window.finish(offset)
    assert len(window.ledger()) < MAX_LEDGER

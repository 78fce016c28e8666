"""Cursors round-trip, any pod understands them, and old ones expire."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.status.live import recent
from services.status.live.cursor import TOPICS, Partition, Place, decode, encode
from services.status.live.cursor_seal import TOO_OLD, CursorSeal
from services.status.live.recent import MAX_AHEAD, Recent
from services.status.live.update import Update
from services.status.projection.projection import fold
from shared.errors import BadParameterError
from tests.support.builders import about, uploaded

SEAL = CursorSeal()
ONE, TWO = Partition(0, 3), Partition(1, 3)

PARTITIONS = st.builds(
    Partition, st.integers(0, len(TOPICS) - 1), st.integers(min_value=0, max_value=10_000)
)


@given(st.dictionaries(PARTITIONS, st.integers(1, (1 << 63) - 1), max_size=40))
def test_a_cursor_comes_back_as_it_went(cursor: dict[Partition, int]) -> None:
    assert decode(encode(cursor)) == cursor


def test_a_cursor_of_all_partitions_is_short() -> None:
    cursor = {Partition(t, number): 1_000_000 for t in range(2) for number in range(12)}
    assert len(encode(cursor)) < 180


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda each: each.hex()))
def test_what_is_no_cursor_is_refused_and_breaks_nothing(text: str) -> None:
    with suppress(BadParameterError):
        decode(text)


@pytest.mark.parametrize("text", ["", "é", "AAAA", "AQAD", "AQMBAQ", "x" * 5000])
def test_a_broken_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadParameterError):
        decode(text)


@given(st.dictionaries(PARTITIONS, st.integers(1, (1 << 63) - 1), max_size=40))
def test_a_sealed_cursor_comes_back_as_it_went(cursor: dict[Partition, int]) -> None:
    assert SEAL.open(SEAL.seal(cursor)) == cursor


def test_a_sealed_cursor_says_nothing_to_who_carries_it() -> None:
    few, many = ({ONE: offset, TWO: offset} for offset in (3, 3_000_000_000))

    assert len(SEAL.seal(few)) == len(SEAL.seal(many))
    assert SEAL.seal(few) != SEAL.seal(few)
    with pytest.raises(BadParameterError):
        decode(SEAL.seal(many))


def test_a_cursor_that_nobody_sealed_or_somebody_else_is_too_old() -> None:
    assert SEAL.open(encode({ONE: 5})) == TOO_OLD
    assert SEAL.open(CursorSeal().seal({ONE: 5})) == TOO_OLD
    changed = SEAL.seal({ONE: 5})
    changed = changed[:-8] + ("A" if changed[-8] != "A" else "B") + changed[-7:]
    assert SEAL.open(changed) == TOO_OLD


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda each: each.hex()))
def test_what_is_no_sealed_cursor_is_refused_and_breaks_nothing(text: str) -> None:
    with suppress(BadParameterError):
        assert SEAL.open(text) == TOO_OLD


def told(file_id: str, partition: Partition, offset: int) -> Update:
    status = fold(None, [(about(file_id, uploaded()), offset)])
    assert status is not None
    return Update(status, place=Place(partition, offset))


def ids_since(log: Recent, cursor: dict[Partition, int]) -> list[str] | None:
    batches = log.since(cursor)
    if batches is None:
        return None
    return [update.status.file_id for batch in batches for update in batch.updates]


def test_all_that_follows_a_cursor_is_there_and_nothing_is_claimed_beyond() -> None:
    log = Recent({ONE: 5, TWO: 5})
    log.add([told("a", ONE, 5)], {ONE: 6, TWO: 5})
    log.add([told("b", TWO, 5)], {ONE: 6, TWO: 6})
    assert ids_since(log, {ONE: 5, TWO: 5}) == ["a", "b"]
    assert ids_since(log, {ONE: 6, TWO: 6}) == []
    assert ids_since(log, {ONE: 9, TWO: 9}) == []
    assert ids_since(log, {ONE: 4, TWO: 6}) is None
    assert ids_since(log, {ONE: 6}) is None
    assert ids_since(log, {ONE: 6, TWO: 7 + MAX_AHEAD}) is None


def test_what_was_told_long_ago_is_forgotten_and_its_cursors_are_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent, "MAX_RECENT", 2)
    log = Recent({ONE: 0})
    for offset, file_id in enumerate("abc"):
        log.add([told(file_id, ONE, offset)], {ONE: offset + 1})
    assert ids_since(log, {ONE: 0}) is None
    assert ids_since(log, {ONE: 1}) == ["b", "c"]


def test_what_tells_nothing_takes_no_place() -> None:
    log = Recent({ONE: 0})
    for offset in range(1, 100):
        log.add([], {ONE: offset})
    assert log.last.cursor == {ONE: 99}
    assert len(log._batches) == 2


def test_of_a_deleted_file_nothing_is_kept() -> None:
    log = Recent({ONE: 0})
    log.add([told("a", ONE, 0), told("b", ONE, 1)], {ONE: 2})
    log.forget("a")
    assert ids_since(log, {ONE: 0}) == ["b"]

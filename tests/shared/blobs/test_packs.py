"""Packs: every key finds its own blob or none, and deleted blobs take no space."""

import ctypes
import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.blobs import packs
from shared.blobs.files import Small
from shared.blobs.packs import HEADER, PACKS, PAGE, Packs, PackWriter, begun_at
from tests.support.small_disk import small_disk
from tests.support.stored import EVER

LATER = datetime.now(UTC) + timedelta(hours=3)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PackWriter]:
    writer = PackWriter(tmp_path)
    yield writer
    writer.close()


def small(name: str, data: bytes) -> Small:
    return Small(f"sources/{name}", data, durable=True, anywhere=True)


def stored(writer: PackWriter, *contents: bytes) -> list[str]:
    """Store blobs together and return their keys."""
    blobs = [small(str(number), data) for number, data in enumerate(contents)]
    assert writer.take(blobs) == []
    assert [blob.error for blob in blobs] == [None] * len(blobs)
    return [blob.key for blob in blobs]


def found(root: Path) -> dict[str, bytes]:
    """Return the content of all slices by key."""
    reader = Packs(root)
    return {each.key: reader.read(each.key) for each in reader.stored_between(*EVER)}


def packs_in(root: Path) -> list[Path]:
    return sorted((root / PACKS).iterdir())


def room(root: Path) -> int:
    """Return the bytes that the packs occupy on the disk."""
    return sum(path.stat().st_blocks * 512 for path in packs_in(root))


CONTENTS = st.lists(st.binary(max_size=3 * PAGE), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(CONTENTS, min_size=1, max_size=5), data=st.data())
def test_what_is_not_deleted_stays_to_the_byte_and_what_is_deleted_is_gone(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("blobs")
    writer, reader = PackWriter(root), Packs(root)
    expected: dict[str, bytes] = {}
    for batch in batches:
        expected |= zip(stored(writer, *batch), batch, strict=True)
        for key in data.draw(st.sets(st.sampled_from(sorted(expected)))) if expected else ():
            reader.delete(key)
            del expected[key]

    assert found(root) == expected
    for key, content in expected.items():
        assert reader.size(key) == len(content)
        assert reader.read(key, 3) == content[:3]
    writer.close()
    assert reader.remove_empty(LATER) == (0 if expected else 1)


def test_only_what_may_stand_anywhere_is_taken(writer: PackWriter, tmp_path: Path) -> None:
    known = Small("known/1", b"x", durable=True)

    assert writer.take([known, small("1", b"y")]) == [known]

    assert list(found(tmp_path).values()) == [b"y"]
    assert writer.take([known]) == [known]


def test_a_slice_tells_when_it_was_stored(writer: PackWriter, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    (key,) = stored(writer, b"x")

    (found,) = Packs(tmp_path).stored_between(before, datetime.now(UTC))

    assert found.key == key
    assert before <= found.at <= datetime.now(UTC)
    tomorrow = before + timedelta(days=1)
    assert list(Packs(tmp_path).stored_between(tomorrow, tomorrow)) == []
    yesterday = before - timedelta(days=1)
    assert list(Packs(tmp_path).stored_between(yesterday, yesterday)) == []


def test_a_deleted_blob_gives_its_room_back(writer: PackWriter, tmp_path: Path) -> None:
    first, second = stored(writer, os.urandom(20 * PAGE), os.urandom(20 * PAGE))
    before = room(tmp_path)

    Packs(tmp_path).delete(first)

    assert room(tmp_path) <= before - 20 * PAGE
    assert list(found(tmp_path)) == [second]


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("/0/0", "/0/00"),
        ("/0/0", "/4096/0"),
        ("/0/0", "/1/0"),
        ("/0/0", "/x/0"),
        ("/0/0", "/9999999/0"),
        ("/0/0", "/0"),
        ("/0/0", ""),
        ("-", "-0"),
        ("packs/", "packs/../packs/"),
    ],
)
def test_another_key_finds_nothing_and_harms_nothing(
    writer: PackWriter, tmp_path: Path, part: str, instead: str
) -> None:
    (key,) = stored(writer, b"x")
    assert part in key
    reader = Packs(tmp_path)

    for act in (reader.read, reader.size, reader.delete):
        with pytest.raises(FileNotFoundError):
            act(key.replace(part, instead))

    assert reader.read(key) == b"x"


def test_what_was_not_written_to_its_end_is_passed_over(writer: PackWriter, tmp_path: Path) -> None:
    before, torn, after = stored(writer, b"x", bytes(3 * PAGE), b"y")
    (pack,) = packs_in(tmp_path)
    with pack.open("r+b") as file:
        file.seek(PAGE)
        file.write(bytes(HEADER.size))

    assert list(found(tmp_path)) == [before, after]
    with pytest.raises(FileNotFoundError):
        Packs(tmp_path).read(torn)


def test_a_slice_whose_end_is_missing_is_not_read_as_another_content(
    writer: PackWriter, tmp_path: Path
) -> None:
    (key,) = stored(writer, bytes(3 * PAGE))
    os.truncate(packs_in(tmp_path)[0], 2 * PAGE)

    with pytest.raises(FileNotFoundError):
        Packs(tmp_path).read(key)
    Packs(tmp_path).delete(key)
    assert found(tmp_path) == {}


def test_a_content_cannot_pretend_to_be_slices(writer: PackWriter, tmp_path: Path) -> None:
    other = PackWriter(tmp_path)
    (key,) = stored(other, b"x")
    other.close()
    slices = packs_in(tmp_path)[0].read_bytes()
    (copy,) = stored(writer, bytes(PAGE - HEADER.size - 1) + 3 * slices)
    Packs(tmp_path).delete(copy)

    assert list(found(tmp_path)) == [key]


class TestAnotherPackIsBegun:
    def test_when_one_is_full(
        self, writer: PackWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "FULL", 2 * PAGE)
        for _ in range(5):
            stored(writer, b"x")
        assert [path.stat().st_size for path in packs_in(tmp_path)].count(2 * PAGE) == 2
        assert len(found(tmp_path)) == 5

    def test_after_a_time(
        self, writer: PackWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "LASTS", timedelta(hours=1))
        stored(writer, b"x")
        stored(writer, b"y")
        assert len(packs_in(tmp_path)) == 1
        writer.close()
        monkeypatch.setattr(packs, "LASTS", timedelta(0))
        stored(writer, b"z")
        stored(writer, b"z")
        assert len(packs_in(tmp_path)) == 3

    def test_when_somebody_has_removed_it(self, writer: PackWriter, tmp_path: Path) -> None:
        stored(writer, b"x")
        packs_in(tmp_path)[0].unlink()
        (key,) = stored(writer, b"y")
        assert found(tmp_path) == {key: b"y"}

    def test_when_the_disk_has_failed(
        self, writer: PackWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (before,) = stored(writer, b"x")
        failed = small("1", b"y")
        with monkeypatch.context() as patched:
            patched.setattr(packs, "force_content", fail)
            writer.take([failed])
        (after,) = stored(writer, b"z")

        assert isinstance(failed.error, OSError)
        assert found(tmp_path) == {before: b"x", after: b"z"}
        assert len(packs_in(tmp_path)) == 2


def fail(descriptor: int) -> None:
    raise OSError(errno.EIO, f"descriptor {descriptor}")


def test_a_full_disk_is_told_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64 * PAGE) as disk:
        writer = PackWriter(disk.path)
        (before,) = stored(writer, b"x")
        large = [small(str(number), bytes(40 * PAGE)) for number in range(2)]
        for _ in range(2):
            writer.take(large)
            assert [getattr(blob.error, "errno", None) for blob in large] == [errno.ENOSPC] * 2
        (after,) = stored(writer, b"y")
        assert found(disk.path) == {before: b"x", after: b"y"}
        writer.close()


@pytest.mark.parametrize("how", ["no such call", "no holes"])
def test_where_holes_cannot_be_made_nothing_is_taken(
    writer: PackWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(packs, "_fallocate", None if how == "no such call" else refuse)
    blob = small("1", b"x")

    for _ in range(2):
        assert writer.take([blob]) == [blob]

    assert packs_in(tmp_path) == []
    assert blob.error is None


class TestEmptyPacks:
    def test_are_removed_when_they_are_old(self, writer: PackWriter, tmp_path: Path) -> None:
        first, second = stored(writer, b"x", b"y")
        writer.close()
        reader = Packs(tmp_path)
        reader.delete(first)
        assert reader.remove_empty(LATER) == 0
        reader.delete(second)
        assert reader.remove_empty(datetime.now(UTC)) == 0
        assert reader.remove_empty(LATER) == 1
        assert packs_in(tmp_path) == []
        with pytest.raises(FileNotFoundError):
            reader.read(second)

    def test_are_left_to_who_adds_to_them(self, writer: PackWriter, tmp_path: Path) -> None:
        (key,) = stored(writer, b"x")
        Packs(tmp_path).delete(key)
        assert Packs(tmp_path).remove_empty(LATER) == 0
        (key,) = stored(writer, b"y")
        assert found(tmp_path) == {key: b"y"}

    def test_are_none_where_there_are_no_packs(self, tmp_path: Path) -> None:
        assert Packs(tmp_path).remove_empty(LATER) == 0
        assert found(tmp_path) == {}


def test_the_name_of_a_pack_tells_when_it_was_begun(writer: PackWriter, tmp_path: Path) -> None:
    stored(writer, b"x")
    (pack,) = packs_in(tmp_path)
    assert abs(datetime.now(UTC) - begun_at(pack.name)) < timedelta(minutes=1)

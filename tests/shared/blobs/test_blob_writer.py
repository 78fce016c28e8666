"""The blob writer process stores blobs like the service itself, even if it dies."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from shared.background import loops
from shared.blobs.blob_writer_process import BLOB, WRITERS
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.packs import PACKS
from shared.blobs.places import source_key
from shared.errors import BlobStoreUnavailableError, StorageFullError
from shared.settings import Settings
from shared.telemetry import BLOB_WRITERS_LOST
from tests.support.blob_writers import blob_writers_of
from tests.support.small_disk import small_disk
from tests.support.stored import stored_files

KEY = source_key("one")


def store_in(path: Path) -> BlobStore:
    return open_blob_store(Settings(blobs=str(path), blobs_fsync=True))


async def blob_writer_of(path: Path) -> psutil.Process:
    """Wait for the blob writer of a directory and return it."""
    async with asyncio.timeout(20):
        while not (found := blob_writers_of(path)):
            await asyncio.sleep(0.01)
    return found[0]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = store_in(tmp_path)
    async with store.blob_writer():
        yield store


async def test_many_blobs_side_by_side_are_all_stored(store: BlobStore) -> None:
    blobs = {source_key(str(number)): os.urandom(1 + number * 100) for number in range(500)}

    await asyncio.gather(*(store.put(key, data) for key, data in blobs.items()))

    assert await store.keys("") == sorted(blobs)
    for key, data in blobs.items():
        assert await store.get(key) == data


async def test_a_blob_is_replaced_and_a_folder_is_made_anew(store: BlobStore) -> None:
    await store.put(KEY, b"before")
    await store.put(KEY, b"after", durable=False)
    assert await store.get(KEY) == b"after"
    await store.delete(KEY)

    await store.put(KEY, b"again")

    assert await store.get(KEY) == b"again"


async def test_one_that_cannot_be_stored_harms_no_other(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file stands where a folder should be")

    outcomes = await asyncio.gather(
        *(store.put(key, b"x") for key in ("a/1", "taken/1", "b/1")),
        return_exceptions=True,
    )

    failed = [isinstance(each, BlobStoreUnavailableError) for each in outcomes]
    assert failed == [False, True, False]
    assert await store.keys("staged") == []


async def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 16) as disk:
        store = store_in(disk.path)
        async with store.blob_writer():
            for anywhere in (True, False):
                with pytest.raises(StorageFullError):
                    await store.put(KEY, bytes(1 << 17), anywhere=anywhere)
            await store.put(KEY, b"x")
        assert await store.keys("") == [KEY]


async def test_what_a_blob_writer_that_dies_had_to_write_is_written_without_it(
    store: BlobStore, tmp_path: Path
) -> None:
    blob_writer = await blob_writer_of(tmp_path)
    blob_writer.send_signal(signal.SIGSTOP)
    blobs = {source_key(str(number)): os.urandom(1000) for number in range(50)}
    writing = asyncio.gather(*(store.put(key, data) for key, data in blobs.items()))
    (tmp_path / "sources").mkdir()
    (tmp_path / source_key("1")).write_text("something else")
    await asyncio.sleep(0)  # All blobs are in progress.
    blob_writer.kill()

    await writing
    assert await store.put(KEY, b"later", anywhere=True) == KEY

    assert await store.keys("sources") == sorted([*blobs, KEY])
    for key, data in blobs.items():
        assert await store.get(key) == data


async def test_a_dead_blob_writer_is_replaced(
    monkeypatch: pytest.MonkeyPatch, store: BlobStore, tmp_path: Path
) -> None:
    monkeypatch.setattr(loops, "FIRST_DELAY", 0.1)
    before = BLOB_WRITERS_LOST._value.get()
    for _ in range(2):
        dead = await blob_writer_of(tmp_path)
        dead.kill()
        async with asyncio.timeout(20):
            while (await blob_writer_of(tmp_path)).pid == dead.pid:
                await asyncio.sleep(0.01)
            # Until the new process accepts blobs, threads write files of their own.
            while not (key := await store.put(KEY, b"x", anywhere=True)).startswith(PACKS):
                await asyncio.sleep(0.01)
        assert await store.get(key) == b"x"
    assert BLOB_WRITERS_LOST._value.get() == before + 2


async def test_a_store_without_a_blob_writer_stores_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    store = store_in(tmp_path / "blobs")
    async with store.blob_writer():
        assert await store.put(KEY, b"x", anywhere=True) == KEY
    assert await store.get(KEY) == b"x"


async def test_what_may_be_in_a_pack_when_a_blob_writer_dies_is_not_stored_twice(
    store: BlobStore, tmp_path: Path
) -> None:
    blob_writer = await blob_writer_of(tmp_path)
    blob_writer.send_signal(signal.SIGSTOP)
    writing = [asyncio.ensure_future(store.put(KEY, b"x", anywhere=True)) for _ in range(3)]
    await asyncio.sleep(0)
    blob_writer.kill()

    outcomes = await asyncio.gather(*writing, return_exceptions=True)

    assert [type(each) for each in outcomes] == [BlobStoreUnavailableError] * 3
    assert await stored_files(store) == {}


async def test_what_may_stand_anywhere_is_stored_in_packs(store: BlobStore) -> None:
    blobs = {source_key(str(number)): os.urandom(1 + number * 100) for number in range(500)}

    keys = await asyncio.gather(
        *(store.put(key, data, anywhere=True) for key, data in blobs.items())
    )

    assert sorted(keys) == sorted((await stored_files(store)).values())
    assert len(await store.keys("packs")) <= WRITERS
    for key, data in zip(keys, blobs.values(), strict=True):
        assert await store.get(key) == data
        assert await store.size(key) == len(data)
        assert await store.start(key, 10) == data[:10]
        assert store.local_path(key) is None
    for key in keys[1:]:
        await store.delete(key)
        await store.delete(key)
        with pytest.raises(BlobMissingError):
            await store.get(key)
    assert await stored_files(store) == {"0": keys[0]}


async def test_where_packs_are_not_wanted_each_blob_is_a_file(tmp_path: Path) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path), blobs_packed=False))
    async with store.blob_writer():
        assert await store.put(KEY, b"x", anywhere=True) == KEY
    assert (tmp_path / KEY).read_bytes() == b"x"


async def test_known_blobs_and_others_are_stored_side_by_side(store: BlobStore) -> None:
    async def put(number: int) -> str:
        return await store.put(f"a/{number}", b"%d" % number, anywhere=number % 2 == 0)

    keys = await asyncio.gather(*map(put, range(100)))

    assert [key for key in keys if key.startswith("a/")] == [f"a/{n}" for n in range(1, 100, 2)]
    assert [await store.get(key) for key in keys] == [b"%d" % number for number in range(100)]


async def test_it_ends_with_its_store_and_not_by_ctrl_c(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    async with store.blob_writer():
        blob_writer = await blob_writer_of(tmp_path)
        assert os.getsid(blob_writer.pid) != os.getsid(0)
    assert not blob_writer.is_running()
    await store.put(KEY, b"x")
    assert await store.get(KEY) == b"x"


async def test_what_was_asked_of_it_is_stored_though_who_asked_has_died(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "shared.blobs.blob_writer_process", str(tmp_path)]
        blob_writer = subprocess.Popen(command, stdin=theirs.fileno())  # noqa: ASYNC220
    with ours:
        for number in range(9):
            key, data = source_key(str(number)).encode(), b"blob"
            ours.sendall(BLOB.pack(number, True, False, len(key), len(data)) + key + data)
        ours.sendall(BLOB.pack(9, True, False, 100, 100) + b"half")

    assert await asyncio.to_thread(blob_writer.wait, 20) == 0

    assert await store_in(tmp_path).keys("") == [source_key(str(number)) for number in range(9)]

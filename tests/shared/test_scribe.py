"""Small blobs written by a process of its own: as by the service itself, and also if it dies."""

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

from shared.blobs import BlobStore, open_blob_store, source_key
from shared.errors import BlobStoreUnavailableError, StorageFullError
from shared.scribe import BLOB
from shared.settings import Settings
from tests.support.small_disk import small_disk

KEY = source_key("one")


def store_in(path: Path) -> BlobStore:
    return open_blob_store(Settings(blobs=str(path), blobs_fsync=True))


async def scribe_of(path: Path) -> psutil.Process:
    """The process below this one that writes blobs there, once it is what it is to be."""
    async with asyncio.timeout(20):
        while True:
            for child in psutil.Process().children():
                if child.cmdline()[-2:] == ["shared.scribe", str(path)]:
                    return child
            await asyncio.sleep(0.01)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = store_in(tmp_path)
    async with store.scribe():
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
        async with store.scribe():
            with pytest.raises(StorageFullError):
                await store.put(KEY, bytes(1 << 17))
            await store.put(KEY, b"x")
        assert await store.keys("") == [KEY]


async def test_what_a_scribe_that_dies_had_to_write_is_written_without_it(
    store: BlobStore, tmp_path: Path
) -> None:
    scribe = await scribe_of(tmp_path)
    scribe.send_signal(signal.SIGSTOP)
    blobs = {source_key(str(number)): os.urandom(1000) for number in range(50)}
    writing = asyncio.gather(*(store.put(key, data, unknown=True) for key, data in blobs.items()))
    (tmp_path / "sources").mkdir()
    (tmp_path / source_key("1")).write_text("half of it")
    await asyncio.sleep(0)  # All of it is under way.
    scribe.kill()

    await writing
    await store.put(KEY, b"later")

    assert await store.keys("sources") == sorted([*blobs, KEY])
    for key, data in blobs.items():
        assert await store.get(key) == data


async def test_it_ends_with_its_store_and_not_by_ctrl_c(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    async with store.scribe():
        scribe = await scribe_of(tmp_path)
        assert os.getsid(scribe.pid) != os.getsid(0)
    assert not scribe.is_running()
    await store.put(KEY, b"x")
    assert await store.get(KEY) == b"x"


async def test_what_was_asked_of_it_is_stored_though_who_asked_has_died(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "shared.scribe", str(tmp_path)]
        scribe = subprocess.Popen(command, stdin=theirs.fileno())  # noqa: ASYNC220
    with ours:
        for number in range(9):
            key, data = source_key(str(number)).encode(), b"blob"
            ours.sendall(BLOB.pack(number, True, False, len(key), len(data)) + key + data)
        ours.sendall(BLOB.pack(9, True, False, 100, 100) + b"half")

    assert await asyncio.to_thread(scribe.wait, 20) == 0

    assert await store_in(tmp_path).keys("") == [source_key(str(number)) for number in range(9)]

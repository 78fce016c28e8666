"""If the volume of a directory store is unmounted, the store is unavailable, not empty."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BLOCK, BlobStore, open_blob_store
from shared.errors import BlobStoreUnavailableError
from shared.settings import Settings

KEY = "sources/one"
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))


class Mount:
    """A simulated mount point, which is an empty directory while unmounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._aside = path.with_name("volume")

    def unmount(self) -> None:
        self.path.rename(self._aside)
        self.path.mkdir()

    def mount(self) -> None:
        self.path.rename(self.path.with_name("bare"))
        self._aside.rename(self.path)

    @property
    def files(self) -> list[str]:
        return [path.name for path in self.path.rglob("*") if path.is_file()]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "blobs")


def a_store(mount: Mount) -> BlobStore:
    return open_blob_store(Settings(blobs=str(mount.path), blobs_fsync=False))


def a_reader(*pieces: bytes) -> Callable[[], Awaitable[bytes]]:
    rest = iter(pieces)

    async def read() -> bytes:
        return next(rest, b"")

    return read


@pytest.mark.parametrize("by_blob_writer", [True, False])
async def test_nothing_is_written_to_the_bare_mount_point(
    mount: Mount, *, by_blob_writer: bool
) -> None:
    store = a_store(mount)
    async with store.blob_writer() if by_blob_writer else nullcontext():
        await store.put("sources/before", b"x", anywhere=True)
        mount.unmount()
        for anywhere in (True, False):
            with pytest.raises(BlobStoreUnavailableError, match="mounted"):
                await store.put(KEY, b"x", anywhere=anywhere)
        with pytest.raises(BlobStoreUnavailableError, match="mounted"):
            await store.put_stream(KEY, a_reader(bytes(BLOCK), b"x"))
        assert mount.files == []
        mount.mount()
        key = await store.put(KEY, b"x", anywhere=True)
        assert await store.get(key) == b"x"


async def test_no_blob_counts_as_missing_deleted_or_created(mount: Mount) -> None:
    store = a_store(mount)
    packed = await a_packed_blob(store)
    await store.put(KEY, b"x")
    mount.unmount()
    (mount.path / "lost+found").mkdir()
    for key in (packed, KEY):
        for ask in (store.get, store.info, store.size, store.delete):
            with pytest.raises(BlobStoreUnavailableError, match="mounted"):
                await ask(key)
        with pytest.raises(BlobStoreUnavailableError, match="mounted"):
            await store.start(key, 1)
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.copy(KEY, "sources/two")
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.create("keys/one", b"x")
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.keys("sources/")
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.packed(*EVER)
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        [each async for each in store.everything()]
    mount.mount()
    assert await store.get(KEY) == await store.get(packed) == b"x"
    with pytest.raises(BlobMissingError):
        await store.get("sources/never")


async def a_packed_blob(store: BlobStore) -> str:
    async with store.blob_writer():
        return await store.put("sources/packed", b"x", anywhere=True)


async def test_a_directory_that_is_gone_is_away_too(mount: Mount) -> None:
    store = a_store(mount)
    await store.put(KEY, b"x")
    await asyncio.to_thread(mount.path.rename, mount.path.with_name("elsewhere"))
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.get(KEY)
    with pytest.raises(BlobStoreUnavailableError, match="mounted"):
        await store.put(KEY, b"x")
    assert not mount.path.exists()

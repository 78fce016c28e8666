"""The blob store: a directory, or any store that obstore speaks to (S3-compatible, GCS, Azure)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import NotFoundError as StoreNotFoundError
from obstore.store import LocalStore, MemoryStore, ObjectStore

from shared.blobs.bloberrors import missing_or_unavailable, unavailable
from shared.blobs.blobinfo import BlobInfo, Stored, info_of_file, info_of_object, info_of_slice
from shared.blobs.directory import Directory, Read, read_at_least
from shared.blobs.files import STAGED, Piece, force_blob
from shared.blobs.objectstore import open_object_store
from shared.blobs.packs import PACKS, Packs
from shared.blobs.volume import Volume
from shared.settings import Settings

if TYPE_CHECKING:
    from obstore import GetOptions

    from shared.background.supervision import Supervisor

BLOCK = 1 << 20
"""Bytes handed on at a time: large enough to be cheap, small enough to hold many. What is smaller
altogether is stored by a single request."""

PART = 8 << 20
"""Bytes of one part of an upload to an object store: S3 wants at least 5 MiB, and at most 10,000
parts."""

PARTS_IN_FLIGHT = 3
"""Parts on their way to the store for one file: with the size of a part this bounds its memory."""

AT_ONCE = 1000
"""Slices that are read from packs between two looks at the loop."""


def _nothing(_: Piece) -> None:
    pass


class BlobStore:
    """Blobs by key.

    Every method raises `BlobStoreUnavailableError` when the store does not answer, and
    `StorageFullError`, which is one, when it has no room.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        root: Path | None = None,
        fsync: bool = False,
        packed: bool = True,
    ) -> None:
        """Args:
        root: the directory, if the store is one.
        fsync: whether a blob in a directory is forced to the disk before it counts as stored.
        packed: whether small blobs of a directory that may stand anywhere share files.
        """
        self._store: Any = store
        self._root = root
        self._fsync = fsync and root is not None
        self._packed = packed
        self._volume = None if root is None else Volume(str(root))
        self._directory = None if self._volume is None else Directory(self._volume, fsync=fsync)
        self._packs = None if root is None else Packs(root)

    @asynccontextmanager
    async def blob_writer(self, supervisor: "Supervisor | None" = None) -> AsyncIterator[None]:
        """Have a process of its own write small blobs into a directory during the `with` block: for
        a service that stores hundreds a second."""
        if self._directory is None:
            yield
        else:
            async with self._directory.blob_writer(supervisor):
                yield

    async def put_stream(
        self,
        key: str,
        read: Read,
        *,
        see: Callable[[Piece], None] = _nothing,
        anywhere: bool = False,
    ) -> str:
        """Store what `read` gives, and return its key; if `read` raises, nothing is stored, and the
        error goes on.

        A failing `read` must not raise `OSError`, which counts as the store's own failure.

        Args:
            see: called with each block of the content, in order, where that is cheapest: in a
                thread, if there is one.
            anywhere: whether the store may choose another key that ends as this one does, if that
                is cheaper. Nothing may be there yet.
        """
        first = await read_at_least(read, BLOCK)
        # Of a form, pieces of a BLOCK come less a boundary; to fill them up would copy them all.
        read_block = partial(read_at_least, read, BLOCK // 2)
        if len(first) < BLOCK:
            see(first)
            return await self.put(key, bytes(first), anywhere=anywhere)
        if self._directory is not None:
            try:
                await self._directory.put_large(key, first, read_block, see)
            except OSError as error:
                raise unavailable(error) from error
        else:
            await self._put_large(key, first, read_block, see)
        return key

    async def _put_large(
        self, key: str, first: Piece, read_block: Read, see: Callable[[Piece], None]
    ) -> None:
        try:
            # Leaving the writer by an error aborts the upload, so that no part of it stays behind.
            async with obstore.open_writer_async(
                self._store, key, buffer_size=PART, max_concurrency=PARTS_IN_FLIGHT
            ) as writer:
                block = first
                while block:
                    await asyncio.gather(asyncio.to_thread(see, block), writer.write(block))
                    block = await read_block()
        except (StoreError, OSError) as error:
            raise unavailable(error) from error

    async def put(
        self, key: str, data: bytes, *, durable: bool = True, anywhere: bool = False
    ) -> str:
        """Store `data` under `key`, replacing what is there; returns its key.

        Args:
            durable: whether it must survive a power cut; what can be made anew need not.
            anywhere: as in `put_stream`.
        """
        try:
            if self._directory is not None:
                anywhere = anywhere and self._packed
                return await self._directory.put(key, data, durable=durable, anywhere=anywhere)
            await obstore.put_async(self._store, key, data)
        except (StoreError, OSError) as error:
            raise unavailable(error) from error
        return key

    async def create(self, key: str, data: bytes) -> bool:
        """Store `data` under `key` if nothing is there; False if something is."""
        try:
            await obstore.put_async(self._store, key, data, mode="create")
        except AlreadyExistsError:
            return False
        except (StoreError, OSError) as error:
            raise unavailable(error) from error
        await self._make_durable(key)
        return True

    async def get(self, key: str) -> bytes:
        """The whole blob; for small ones.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        chunks = [chunk async for chunk in await self.stream(key)]
        return b"".join(chunks)

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The blob in pieces of about `BLOCK` bytes; only these are read.

        Args:
            start, end: the bytes of the blob from `start` up to `end`; by default all.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                length = None if end is None else end - start
                return _one(await asyncio.to_thread(packs.read, key, length, start=start))
            # obstore reads a file in pieces of 8 KiB, each of which changes threads.
            content = await (
                self._directory.stream(key, BLOCK, start=start, end=end)
                if self._directory
                else self._stream(key, start, end)
            )

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in content:
                    yield piece
            except (StoreError, OSError) as error:
                raise unavailable(error) from error

        return pieces()

    async def _stream(self, key: str, start: int, end: int | None) -> AsyncIterator[bytes]:
        options: GetOptions = {}
        if end is not None and end > start:  # A store refuses a range of no bytes.
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        answer = await obstore.get_async(self._store, key, options=options)
        return (bytes(piece) async for piece in answer.stream(min_chunk_size=BLOCK))

    async def info(self, key: str) -> BlobInfo:
        """What the store says of the blob, without reading it.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(info_of_slice, packs, key)
            if self._root is not None:
                return await asyncio.to_thread(info_of_file, self._root / key)
            return info_of_object(await obstore.head_async(self._store, key))

    async def size(self, key: str) -> int:
        """Bytes of the blob.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(packs.size, key)
            size: int = (await obstore.head_async(self._store, key))["size"]
        return size

    async def start(self, key: str, length: int) -> bytes:
        """The first `length` bytes of the blob, or all of it if it is shorter.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(packs.read, key, length)
            return bytes(await obstore.get_range_async(self._store, key, start=0, length=length))

    async def copy(self, key: str, target: str) -> None:
        """Store under `target` what stands under `key`; the store does it by itself.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        with missing_or_unavailable(key, self._volume):
            if self._directory is not None:
                await self._directory.copy(key, target)
            else:
                await obstore.copy_async(self._store, key, target)
        await self._make_durable(target)

    def local_path(self, key: str) -> str | None:
        """Where the blob is a file of its own on this machine, or None if it is none."""
        return f"{self._root}/{key}" if self._root and not self.packs_of(key) else None

    def packs_of(self, key: str) -> Packs | None:
        """The packs on this machine that have the blob, or None if it is not in one."""
        return self._packs if key.startswith(PACKS) else None

    async def delete(self, key: str) -> None:
        """Remove a blob; removing what is not there is no error."""
        try:
            if packs := self.packs_of(key):
                await asyncio.to_thread(packs.delete, key)
            else:
                await obstore.delete_async(self._store, key)
        except (FileNotFoundError, StoreNotFoundError):
            await self.check_volume()
        except (StoreError, OSError) as error:
            raise unavailable(error) from error

    async def keys(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        """The keys that stand under `prefix`, sorted.

        Args:
            before: only what was stored before that.
        """
        found = await self.stored(prefix)
        return sorted(key for key, blob in found.items() if before is None or blob.at < before)

    async def stored(self, prefix: str, *, after: str | None = None) -> dict[str, Stored]:
        """What stands under `prefix`, by key.

        Args:
            after: only keys that are greater.
        """
        found: dict[str, Stored] = {}
        await self.check_volume()
        try:
            async for batch in obstore.list(self._store, prefix, offset=after):
                found.update(
                    (entry["path"], Stored(entry["size"], entry["last_modified"]))
                    for entry in batch
                )
        except (StoreError, OSError) as error:
            raise unavailable(error) from error
        return found

    async def everything(self) -> AsyncIterator[tuple[str, Stored]]:
        """All that is stored, by key; what is not complete yet is not."""
        aside = () if self._packs is None else (PACKS, STAGED)
        await self.check_volume()
        try:
            async for batch in obstore.list(self._store):
                for entry in batch:
                    if not entry["path"].startswith(aside):
                        yield entry["path"], Stored(entry["size"], entry["last_modified"])
            slices = iter(()) if self._packs is None else self._packs.slices()
            while some := await asyncio.to_thread(lambda: list(islice(slices, AT_ONCE))):
                for each in some:
                    yield each.key, Stored(each.size, each.at)
        except (StoreError, OSError) as error:
            raise unavailable(error) from error

    async def packed(self, begin: datetime, end: datetime) -> dict[str, Stored]:
        """What the store chose the place for between two times, by key; others may be with it."""
        if self._packs is None:
            return {}
        await self.check_volume()
        packs = self._packs

        def found() -> dict[str, Stored]:
            return {
                each.key: Stored(each.size, each.at) for each in packs.stored_between(begin, end)
            }

        try:
            return await asyncio.to_thread(found)
        except OSError as error:
            raise unavailable(error) from error

    async def sweep_packs(self) -> int:
        """Give back what many deleted blobs had in common; returns how many files that were."""
        if self._packs is None:
            return 0
        try:
            return await asyncio.to_thread(self._packs.remove_empty, datetime.now(UTC))
        except OSError as error:
            raise unavailable(error) from error

    async def check_volume(self) -> None:
        """Raises:
        BlobStoreUnavailableError: the store is a directory, and that is not there any more.
        """
        if self._volume is not None:
            try:
                await asyncio.to_thread(self._volume.check)
            except OSError as error:
                raise unavailable(error) from error

    async def _make_durable(self, key: str) -> None:
        """Force a directory store's new blob, and the folders that name it, to the disk.

        Raises:
            BlobStoreUnavailableError: it cannot be, or the blob is in another directory.
        """
        await self.check_volume()
        if self._fsync and self._root is not None:
            try:
                await asyncio.to_thread(force_blob, self._root, key)
            except OSError as error:
                raise unavailable(error) from error


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


def open_blob_store(settings: Settings) -> BlobStore:
    """The store that `WAYBILL_BLOBS` names.

    Credentials come from the variables that each cloud's own tools read, such as
    `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_REGION`.
    """
    if "://" not in settings.blobs:
        root = Path(settings.blobs).expanduser().resolve()
        root.mkdir(parents=True, exist_ok=True)
        local = LocalStore(root, mkdir=True, automatic_cleanup=True)
        return BlobStore(local, root=root, fsync=settings.blobs_fsync, packed=settings.blobs_packed)
    if settings.blobs.startswith("memory://"):
        return BlobStore(MemoryStore())
    return BlobStore(open_object_store(settings.blobs, settings.blobs_endpoint))

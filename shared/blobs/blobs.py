"""The blob store: a directory, or any store that obstore supports (S3-compatible, GCS, Azure)."""

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
"""Bytes of a block of content: large enough to be cheap, small enough to hold many in memory.
Smaller blobs are stored with a single request."""

PART = 8 << 20
"""Bytes of one part of a multipart upload. S3 requires at least 5 MiB, and allows 10,000 parts."""

PARTS_IN_FLIGHT = 3
"""Concurrent part uploads per file. Together with the size of a part, this bounds the memory."""

AT_ONCE = 1000
"""Slices that are listed from packs before control returns to the event loop."""


def _nothing(_: Piece) -> None:
    pass


class BlobStore:
    """Stores blobs by key.

    Every method raises `BlobStoreUnavailableError` if the store is unavailable, and its subclass
    `StorageFullError` if the store is full.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        root: Path | None = None,
        fsync: bool = False,
        packed: bool = True,
    ) -> None:
        """Create a store on top of an obstore store.

        Args:
            root: the directory, for a directory store.
            fsync: in a directory, flush each blob to disk before it counts as stored.
            packed: in a directory, store small blobs that may have any key in shared files.
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
        """Run a process that writes small blobs to a directory, to store hundreds per second."""
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
        """Store the content that `read` returns, and return its key.

        If `read` raises an error, nothing is stored and the error propagates. It must not raise
        `OSError`, which counts as a failure of the store.

        Args:
            see: called with each block of the content, in order, possibly in a thread.
            anywhere: let the store choose another key with the same last part, if that is cheaper.
                The key must not exist yet.
        """
        first = await read_at_least(read, BLOCK)
        # Pieces of a form are a BLOCK minus a boundary; filling them up would copy all of them.
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
            # An error in the block aborts the multipart upload, so that no parts remain.
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
        """Store a blob, replacing any previous one, and return its key.

        Args:
            durable: the blob must survive a power failure. Not needed for reproducible blobs.
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
        """Store a blob unless the key exists; return False if it does."""
        try:
            await obstore.put_async(self._store, key, data, mode="create")
        except AlreadyExistsError:
            return False
        except (StoreError, OSError) as error:
            raise unavailable(error) from error
        await self._make_durable(key)
        return True

    async def get(self, key: str) -> bytes:
        """Return the whole content of a small blob.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        chunks = [chunk async for chunk in await self.stream(key)]
        return b"".join(chunks)

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Return an iterator over the content, in pieces of about `BLOCK` bytes.

        Args:
            start, end: range of bytes from `start` up to, but not including, `end`; by default all.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                length = None if end is None else end - start
                return _one(await asyncio.to_thread(packs.read, key, length, start=start))
            # obstore reads files in pieces of 8 KiB, with a thread switch for each.
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
        if end is not None and end > start:  # Stores reject empty ranges.
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        answer = await obstore.get_async(self._store, key, options=options)
        return (bytes(piece) async for piece in answer.stream(min_chunk_size=BLOCK))

    async def info(self, key: str) -> BlobInfo:
        """Return the metadata of a blob.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(info_of_slice, packs, key)
            if self._root is not None:
                return await asyncio.to_thread(info_of_file, self._root / key)
            return info_of_object(await obstore.head_async(self._store, key))

    async def size(self, key: str) -> int:
        """Return the size of a blob in bytes.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(packs.size, key)
            size: int = (await obstore.head_async(self._store, key))["size"]
        return size

    async def start(self, key: str, length: int) -> bytes:
        """Return the first `length` bytes of a blob, or all of it if it is shorter.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        with missing_or_unavailable(key, self._volume):
            if packs := self.packs_of(key):
                return await asyncio.to_thread(packs.read, key, length)
            return bytes(await obstore.get_range_async(self._store, key, start=0, length=length))

    async def copy(self, key: str, target: str) -> None:
        """Copy a blob to the key `target` within the store.

        Raises:
            BlobMissingError: the blob does not exist.
        """
        with missing_or_unavailable(key, self._volume):
            if self._directory is not None:
                await self._directory.copy(key, target)
            else:
                await obstore.copy_async(self._store, key, target)
        await self._make_durable(target)

    def local_path(self, key: str) -> str | None:
        """Return the path of a blob that is a local file of its own, else None."""
        return f"{self._root}/{key}" if self._root and not self.packs_of(key) else None

    def packs_of(self, key: str) -> Packs | None:
        """Return the local packs if the blob is in one, else None."""
        return self._packs if key.startswith(PACKS) else None

    async def delete(self, key: str) -> None:
        """Delete a blob. Deleting a missing blob is not an error."""
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
        """Return the keys under `prefix`, sorted.

        Args:
            before: only blobs stored before this time.
        """
        found = await self.stored(prefix)
        return sorted(key for key, blob in found.items() if before is None or blob.at < before)

    async def stored(self, prefix: str, *, after: str | None = None) -> dict[str, Stored]:
        """Return the metadata of all blobs under `prefix`, by key.

        Args:
            after: only keys greater than this one.
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
        """Yield the key and the metadata of every blob, except incomplete ones."""
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
        """Return the blobs in packs that were stored between two times, by key.

        The result may include others from around these times.
        """
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
        """Delete packs whose blobs are all deleted, and return the number of files removed."""
        if self._packs is None:
            return 0
        try:
            return await asyncio.to_thread(self._packs.remove_empty, datetime.now(UTC))
        except OSError as error:
            raise unavailable(error) from error

    async def check_volume(self) -> None:
        """Check that the directory of a directory store is still the original one.

        Raises:
            BlobStoreUnavailableError: the directory is lost.
        """
        if self._volume is not None:
            try:
                await asyncio.to_thread(self._volume.check)
            except OSError as error:
                raise unavailable(error) from error

    async def _make_durable(self, key: str) -> None:
        """Flush a new blob of a directory store, and its parent directories, to disk.

        Raises:
            BlobStoreUnavailableError: the flush failed, or the directory is lost.
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
    """Open the store that `WAYBILL_BLOBS` names.

    Credentials come from the environment variables of each cloud's own tools, such as
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

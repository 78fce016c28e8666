"""The blob store: a directory, or any store that obstore speaks to (S3-compatible, GCS, Azure).

Keys are made of ids that we hand out, never of names that users send.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import NotFoundError as StoreNotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from shared.errors import BlobStoreUnavailableError
from shared.settings import Settings

READ_CHUNK = 1 << 20
"""Bytes handed on at a time: large enough to be cheap, small enough to hold many."""

WRITE_CHUNK = 8 << 20
"""Bytes of one part of a multipart upload; S3 wants at least 5 MiB and at most 10,000 parts."""

PARTS_IN_FLIGHT = 3
"""Parts on their way to the store for one file: with WRITE_CHUNK this bounds its memory."""


class BlobMissingError(LookupError):
    """The blob store has nothing under this key."""


def source_key(file_id: str) -> str:
    """Where an uploaded file is stored."""
    return f"files/{file_id}/source"


def attempt_prefix(file_id: str, run: int, attempt: int) -> str:
    """Where one attempt stores its artifacts, so that two attempts never mix."""
    return f"files/{file_id}/{run}.{attempt}"


class BlobStore:
    """Blobs by key.

    Every method raises `BlobStoreUnavailableError` when the store does not answer.
    """

    def __init__(self, store: ObjectStore, *, root: Path | None, fsync: bool) -> None:
        self._store: Any = store
        self._root = root
        self._fsync = fsync and root is not None

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store what `chunks` yields; if `chunks` raises, nothing is stored, the error goes on."""
        raised: list[BaseException] = []

        async def guarded() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except BaseException as error:
                raised.append(error)
                raise

        try:
            await obstore.put_async(
                self._store,
                key,
                guarded(),
                use_multipart=True,
                chunk_size=WRITE_CHUNK,
                max_concurrency=PARTS_IN_FLIGHT,
            )
        except Exception as error:
            if raised:
                raise raised[0] from None
            raise _unavailable(error) from error
        await self._make_durable(key)

    async def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, replacing what is there."""
        try:
            await obstore.put_async(self._store, key, data)
        except (StoreError, OSError) as error:
            raise _unavailable(error) from error
        await self._make_durable(key)

    async def put_file(self, key: str, path: Path) -> None:
        """Store the content of a local file under `key`."""
        try:
            await obstore.put_async(
                self._store, key, path, chunk_size=WRITE_CHUNK, max_concurrency=PARTS_IN_FLIGHT
            )
        except (StoreError, OSError) as error:
            raise _unavailable(error) from error
        await self._make_durable(key)

    async def get(self, key: str) -> bytes:
        """The whole blob; for small ones.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        chunks = [chunk async for chunk in await self.stream(key)]
        return b"".join(chunks)

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """The blob in pieces of about `READ_CHUNK` bytes.

        Raises:
            BlobMissingError: nothing is stored under this key.
        """
        try:
            answer = await obstore.get_async(self._store, key)
        except (FileNotFoundError, StoreNotFoundError) as error:
            raise BlobMissingError(key) from error
        except (StoreError, OSError) as error:
            raise _unavailable(error) from error

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.stream(min_chunk_size=READ_CHUNK):
                yield bytes(piece)

        return pieces()

    def local_path(self, key: str) -> Path | None:
        """Where the blob is as a file on this machine, or None if the store is elsewhere."""
        return self._root / key if self._root is not None else None

    async def delete(self, key: str) -> None:
        """Remove a blob; removing what is not there is no error."""
        try:
            await obstore.delete_async(self._store, key)
        except (FileNotFoundError, StoreNotFoundError):
            return
        except (StoreError, OSError) as error:
            raise _unavailable(error) from error

    async def keys(self, prefix: str) -> list[str]:
        """The keys that stand under `prefix`, sorted."""
        found: list[str] = []
        try:
            async for batch in obstore.list(self._store, prefix):
                found.extend(entry["path"] for entry in batch)
        except (StoreError, OSError) as error:
            raise _unavailable(error) from error
        return sorted(found)

    async def _make_durable(self, key: str) -> None:
        """Force a directory store's new blob, and the folders that name it, to the disk."""
        if self._fsync and self._root is not None:
            await asyncio.to_thread(_fsync_path, self._root, key)


def _fsync_path(root: Path, key: str) -> None:
    path = root / key
    while True:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path == root:
            return
        path = path.parent


def _unavailable(error: Exception) -> BlobStoreUnavailableError:
    return BlobStoreUnavailableError(f"The blob store does not answer: {error}")


def open_blob_store(settings: Settings) -> BlobStore:
    """The store that `WAYBILL_BLOBS` names."""
    if "://" not in settings.blobs:
        root = Path(settings.blobs).expanduser().resolve()
        root.mkdir(parents=True, exist_ok=True)
        local = LocalStore(str(root), mkdir=True)
        return BlobStore(local, root=root, fsync=settings.blobs_fsync)
    options: dict[str, Any] = {}
    if settings.blobs_endpoint:
        options["endpoint"] = settings.blobs_endpoint
        if settings.blobs_endpoint.startswith("http://"):
            options["client_options"] = {"allow_http": True}
    return BlobStore(from_url(settings.blobs, **options), root=None, fsync=False)

"""Fetch stored files onto this machine and verify them.

A parser that fails on an incomplete copy would blame the document. Every copy is therefore checked
against the recorded size and SHA-256 before it is parsed. If a parser rejects the file, the file is
compared once more.
"""

import asyncio
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from services.processor.channel import Packed
from shared.blobs.bloberrors import BlobMissingError, unavailable
from shared.blobs.blobs import BlobStore
from shared.errors import BlobStoreUnavailableError
from shared.events.facts import Source
from shared.writing import write_all

COPY = "source"
"""Name of a file, or of the link to it, in an attempt's directory."""

BLOCK = 1 << 20
"""Bytes hashed or copied at a time."""


class ContentChangedError(Exception):
    """The stored file does not match the size or SHA-256 recorded at upload."""


class Content(NamedTuple):
    """Size and hash that identify a file's content."""

    size: int
    sha256: str

    def is_of(self, source: Source) -> bool:
        """Return True if this is the recorded content, as far as it is known."""
        return self.size == source.size and source.sha256 in (None, self.sha256)


class Sources:
    """Fetches stored files onto this machine."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def fetch(self, source: Source, folder: str) -> str | Packed:
        """Return the path of the stored file, or the pack that contains it.

        Args:
            folder: directory for a copy; it need not exist.

        Raises:
            BlobMissingError: the file no longer exists.
            ContentChangedError: the file does not match the recorded size or SHA-256.
            BlobStoreUnavailableError: the store does not answer, or returned two different copies.
            OSError: there is no space for the copy.
        """
        if packs := self._blobs.packs_of(source.blob):
            return Packed(root=str(packs.root), key=source.blob, sha256=source.sha256)
        local = self._blobs.local_path(source.blob)
        if local is not None:
            if _size(local, source.blob) != source.size:
                raise ContentChangedError
            return local
        path = Path(folder) / COPY
        await asyncio.to_thread(path.parent.mkdir, exist_ok=True)
        require_room(path.parent, source.size)
        content = await self._download(source.blob, path)
        if not content.is_of(source):
            # A changed blob is the same on every download; a transfer error is not.
            again = await self._download(source.blob, path)
            if again == content:
                raise ContentChangedError
            if not again.is_of(source):
                raise BlobStoreUnavailableError
        if _size(str(path), source.blob) != source.size:
            raise OSError(errno.EIO, "the copy is not as long as the data written", str(path))
        return str(path)

    async def is_intact(self, source: Source, folder: str) -> bool:
        """Compare a file that a parser rejected with what was recorded at upload.

        Args:
            folder: directory of the attempt. A small file is not in it: it was sent inside the
                job, and the worker compares it.

        Returns:
            False if the copy is damaged, so that the failure does not concern the document.

        Raises:
            ContentChangedError: the stored file has changed.
            BlobStoreUnavailableError: it cannot be read on this machine.
        """
        stored = self._blobs.local_path(source.blob)
        if stored is not None and not await self._is_of(source, stored):
            raise ContentChangedError
        copy = f"{folder}/{COPY}"
        return not await asyncio.to_thread(os.path.exists, copy) or await self._is_of(source, copy)

    async def _is_of(self, source: Source, path: str) -> bool:
        try:
            content = await asyncio.to_thread(content_of, path)
        except OSError as error:
            raise unavailable(error) from error
        return content.is_of(source)

    async def _download(self, key: str, path: Path) -> Content:
        size, sha256 = 0, hashlib.sha256()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

        def write(chunk: bytes) -> None:
            sha256.update(chunk)
            write_all(descriptor, chunk)

        loop = asyncio.get_running_loop()
        writing: set[asyncio.Future[None]] = set()
        try:
            async for chunk in await self._blobs.stream(key):
                writing = {loop.run_in_executor(None, write, chunk)}
                await asyncio.wait(writing)
                for each in writing:
                    each.result()
                size += len(chunk)
        finally:
            if writing:  # A thread may still be writing to the descriptor.
                await asyncio.wait(writing)
            os.close(descriptor)
        return Content(size, sha256.hexdigest())


def content_of(path: str | Path) -> Content:
    """Read a whole file and return its size in bytes and its SHA-256."""
    size, sha256 = 0, hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while block := file.read(BLOCK):
            sha256.update(block)
            size += len(block)
    return Content(size, sha256.hexdigest())


def require_room(folder: str | Path, size: int) -> None:
    """Raise ENOSPC if a copy does not fit: trying would fill the disk for all other files.

    Args:
        size: bytes of the copy.

    Raises:
        OSError: ENOSPC.
    """
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if size > free:
        raise OSError(errno.ENOSPC, f"{size} bytes needed, {free} bytes free", str(folder))


@contextmanager
def read_from_store(root: str, key: str) -> Iterator[None]:
    """Translate system errors for a file in a directory store into Waybill's errors.

    Raises:
        BlobMissingError: the file no longer exists.
        BlobStoreUnavailableError: the file cannot be read, or the store is not mounted.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if _is_mounted(root):
            raise BlobMissingError(key) from error
        raise unavailable(error) from error
    except OSError as error:
        raise unavailable(error) from error


def _size(path: str, key: str) -> int:
    """Return the size of a stored file in bytes."""
    with read_from_store(path.removesuffix(key), key):
        return os.stat(path).st_size  # noqa: PTH116 - creating a `Path` takes as long as the call


def _is_mounted(root: str) -> bool:
    """Return True if the directory store is not empty; an empty one is an unmounted volume."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        return False

"""Blobs as files of a directory, forced to the disk many at a time.

A thread takes all small blobs that wait, writes them, and has the disk take them together, which
costs a fraction of one after another. A blob is written in a folder aside and then renamed, so that
nobody reads half of it; what a process that died leaves there is swept.
"""

import asyncio
import itertools
import os
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Read = Callable[[], Awaitable[bytes]]
"""Gives the next piece of some content; b"" at its end."""

STAGED = "staged"
"""The folder of what is not complete yet; in the same file system, so that it can be renamed."""

WRITERS = 8
"""Threads for small blobs. The disk takes what several force at a time together; with two, who came
second waited for the batch under way and then for a large one of its own."""

AT_ONCE = 64
"""Small blobs that a thread writes together, with as many open files, if all threads are busy."""

FLUSH_EVERY = 16 << 20
"""Bytes of a large blob after which the disk is to begin with them: little is left for the end."""


_PROCESS, _numbers = uuid.uuid4().hex, itertools.count()
"""What names staged files: no two processes may take the same."""

_force_content = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter.


class _File:
    """A file that is to become a blob. Its methods wait for the disk, so they are for threads."""

    def __init__(self, root: Path, key: str) -> None:
        self._path = root / STAGED / f"{_PROCESS}.{next(_numbers)}"
        self._target = root / key
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def begin_to_force(self) -> None:
        """Have the disk begin, without waiting: Linux writes at once what it need not keep."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def force(self) -> None:
        """Wait until the disk has what was written so far."""
        _force_content(self._descriptor)

    def become_blob(self) -> None:
        """Take the blob's name. It is durable once its folders are."""
        try:
            self._path.rename(self._target)
        except FileNotFoundError:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._path.rename(self._target)
        self._close()

    def discard(self) -> None:
        """Leave nothing of it that is not a blob."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


def force_folders(root: Path, keys: Iterable[str]) -> None:
    """Have the disk know the names of blobs: force every folder between them and `root`.

    Raises:
        OSError: a folder cannot be forced.
    """
    folders = {folder for key in keys for folder in Path(key).parents}
    for folder in sorted(folders, reverse=True):
        descriptor = os.open(root / folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Put:
    """A small blob on its way."""

    def __init__(self, key: str, data: bytes, *, durable: bool) -> None:
        self.key = key
        self.data = data
        self.durable = durable
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.file: _File | None = None
        self.error: Exception | None = None


def _store_together(root: Path, puts: list[_Put]) -> None:
    """Store each of them, or note in it why not."""

    def each(step: Callable[[_Put, _File], None], *, durable_only: bool = False) -> None:
        for put in puts:
            if put.error is None and (put.durable or not durable_only):
                try:
                    put.file = put.file or _File(root, put.key)
                    step(put, put.file)
                except OSError as error:
                    put.error = error
                    if put.file is not None:
                        put.file.discard()

    each(lambda put, file: file.write(put.data))
    each(lambda _, file: file.begin_to_force(), durable_only=True)
    each(lambda _, file: file.force(), durable_only=True)
    each(lambda _, file: file.become_blob())
    named = [put for put in puts if put.durable and put.error is None]
    try:
        force_folders(root, [put.key for put in named])
    except OSError as error:
        for put in named:
            put.error = error


class Directory:
    """Writes blobs. Every method raises `OSError` when the directory does not take them."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        """Args:
        fsync: whether what is durable must survive a power cut.
        """
        self._root = root
        self._fsync = fsync
        self._waiting: deque[_Put] = deque()
        self._free = WRITERS
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="blobs")

    async def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store a small blob, replacing what is there."""
        put = _Put(key, data, durable=durable and self._fsync)
        self._waiting.append(put)
        self._begin()
        await put.stored

    def _begin(self) -> None:
        while self._free and self._waiting:
            share = min(AT_ONCE, -(-len(self._waiting) // self._free))
            self._free -= 1
            puts = [self._waiting.popleft() for _ in range(share)]
            self._threads.submit(self._store, puts, asyncio.get_running_loop())

    def _store(self, puts: list[_Put], loop: asyncio.AbstractEventLoop) -> None:
        try:
            _store_together(self._root, puts)
        except Exception as error:  # A bug must not leave them waiting for ever.
            for put in puts:
                put.error = put.error or error
        loop.call_soon_threadsafe(self._end, puts)

    def _end(self, puts: list[_Put]) -> None:
        self._free += 1
        self._begin()
        for put in puts:
            if put.stored.done():  # Who waited was cancelled.
                continue
            if put.error is None:
                put.stored.set_result(None)
            else:
                put.stored.set_exception(put.error)

    async def put_large(
        self, key: str, first: bytes, read: Read, see: Callable[[bytes], None]
    ) -> None:
        """Store a large blob: while one block is written, the next one arrives.

        Args:
            first: its first block; `read` gives the others.
            see: called in a thread with each block, in order.
        """
        file = await asyncio.to_thread(_File, self._root, key)
        writing = flushing = _done()
        unflushed = 0

        def write(block: bytes) -> None:
            see(block)
            file.write(block)

        try:
            block = first
            while block:
                await writing
                writing = asyncio.ensure_future(asyncio.to_thread(write, block))
                unflushed += len(block)
                if self._fsync and unflushed > FLUSH_EVERY and flushing.done():
                    await flushing
                    flushing = asyncio.ensure_future(asyncio.to_thread(file.force))
                    unflushed = 0
                block = await read()
            await asyncio.gather(writing, flushing)
            await asyncio.to_thread(self._complete, file, key)
        except BaseException:
            await asyncio.gather(writing, flushing, return_exceptions=True)
            await asyncio.to_thread(file.discard)
            raise

    def _complete(self, file: _File, key: str) -> None:
        if self._fsync:
            file.force()
        file.become_blob()
        if self._fsync:
            force_folders(self._root, [key])


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future

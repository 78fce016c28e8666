"""Blobs as files of a directory: large blobs are streamed, small ones are written in batches.

Small blobs are written by the blob writer process while it runs, else by threads.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from shared.background.loops import Loop
from shared.blobs.blob_writer_client import BlobWriterClient, running_blob_writer
from shared.blobs.files import Piece, Small, StagedFile, Writers, copy_blob, force_folders
from shared.blobs.volume import Volume
from shared.telemetry import BLOB_WRITERS_LOST

if TYPE_CHECKING:
    from shared.background.supervision import RunningLoop, Supervisor

Read = Callable[[], Awaitable[Piece]]
"""Returns the next piece of some content; b"" at its end."""

FORCE_EVERY = 4 << 20
"""Bytes of a large blob between two requests to start writeback, so that the final flush is
short."""


BLOB_WRITER_CHECK_EVERY = 5.0
"""Seconds between two checks that the blob writer is running."""

BLOB_WRITER = Loop(
    name="blob-writer",
    late_after=60.0,
    vital=False,
    purpose="Runs the process that writes small blobs to a directory.",
    when_late="Small uploads are slower, because threads of the pod write them.",
)


class BlobWriterDiedError(Exception):
    """The blob writer process has died."""


class Directory:
    """Writes blobs to a directory. Every method raises `OSError` if the write fails."""

    def __init__(self, volume: Volume, *, fsync: bool) -> None:
        """Use a directory.

        Args:
            fsync: flush durable blobs to disk, so that they survive a power failure.
        """
        self._volume = volume
        self._root = volume.root
        self._fsync = fsync
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stored: dict[Small, asyncio.Future[str]] = {}
        """The futures of the callers that wait for each blob."""
        self._writers = Writers(volume, self._end_soon)
        self._blob_writer: BlobWriterClient | None = None

    @asynccontextmanager
    async def blob_writer(self, supervisor: "Supervisor | None" = None) -> AsyncIterator[None]:
        """Run a separate process that writes small blobs, for the block.

        A thread needs the GIL after each of its system calls, a dozen per blob, and a busy event
        loop releases it only after milliseconds.

        Args:
            supervisor: restarts the process when it dies; by default, a new supervisor.
        """
        from shared.background.supervision import Supervisor

        begun = asyncio.Event()
        supervisor = supervisor or Supervisor()
        async with supervisor.running((BLOB_WRITER, partial(self._run_blob_writer, begun))):
            await begun.wait()
            yield

    async def _run_blob_writer(self, begun: asyncio.Event, loop: "RunningLoop") -> None:
        """Run a blob writer until it dies.

        Raises:
            BlobWriterDiedError: the process has died.
            OSError: the process cannot be started.
        """
        try:
            async with running_blob_writer(
                self._volume, self._end, self._write
            ) as self._blob_writer:
                begun.set()
                ended = self._blob_writer.ended
                while not ended.is_set():
                    loop.succeeded()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(BLOB_WRITER_CHECK_EVERY):
                            await ended.wait()
            BLOB_WRITERS_LOST.inc()
            raise BlobWriterDiedError("the blob writer process has died")
        finally:
            self._blob_writer = None
            begun.set()

    async def put(
        self, key: str, data: bytes, *, durable: bool = True, anywhere: bool = False
    ) -> str:
        """Store a small blob, replacing any previous one, and return its key.

        Args:
            durable: the blob must survive a power failure.
            anywhere: the blob may be stored under another key.
        """
        blob = Small(key, data, durable and self._fsync, anywhere)
        self._loop = asyncio.get_running_loop()
        stored: asyncio.Future[str] = self._loop.create_future()
        self._stored[blob] = stored
        if self._blob_writer is None or not self._blob_writer.take(blob):
            self._writers.take([blob])
        return await stored

    def _write(self, blobs: Iterable[Small]) -> None:
        """Write the blobs for which a dead blob writer has sent no response.

        It may have written some of them. Writing a blob twice is harmless, except for a slice of a
        pack: nobody would know the first one's key. Such blobs fail instead.
        """
        blobs = list(blobs)
        loose = [blob for blob in blobs if blob.anywhere]
        for blob in loose:
            blob.error = OSError(errno.EIO, "the blob writer died")
        self._end(loose)
        self._writers.take([blob for blob in blobs if not blob.anywhere])

    def _end_soon(self, blobs: Sequence[Small]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end, blobs)

    def _end(self, blobs: Iterable[Small]) -> None:
        for blob in blobs:
            stored = self._stored.pop(blob)
            if stored.done():  # The caller was cancelled.
                continue
            if blob.error is None:
                stored.set_result(blob.key)
            else:
                stored.set_exception(blob.error)

    async def put_large(
        self, key: str, first: Piece, read: Read, see: Callable[[Piece], None]
    ) -> None:
        """Store a large blob. While one block is written, the next one is read.

        Args:
            first: the first block; `read` returns the others.
            see: called with each block, in order, in a thread in parallel with the write.
        """
        loop = asyncio.get_running_loop()
        file = await asyncio.to_thread(self._begin, key)
        unforced = 0
        under_way: set[asyncio.Future[None]] = set()

        def write(block: Piece) -> None:
            nonlocal unforced
            file.write(block)
            unforced += len(block)
            if self._fsync and unforced >= FORCE_EVERY:
                file.begin_to_force()
                unforced = 0

        try:
            block = first
            while block:
                await _ended(under_way)
                under_way = {loop.run_in_executor(None, do, block) for do in (see, write)}
                block = await read()
            await _ended(under_way)
            under_way = {loop.run_in_executor(None, self._complete, file, key)}
            await _ended(under_way)
        except BaseException:
            # Threads cannot be stopped, and a descriptor must not be closed while one uses it.
            if under_way:
                await asyncio.wait(under_way)
            await asyncio.to_thread(file.discard)
            raise

    async def stream(
        self, key: str, block: int, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Open a blob and return an iterator over its content in pieces of `block` bytes.

        Args:
            start, end: range of bytes from `start` up to, but not including, `end`; by default all.

        Raises:
            FileNotFoundError: the blob does not exist.
        """
        file = await asyncio.to_thread(open, f"{self._root}/{key}", "rb", buffering=0)

        async def pieces() -> AsyncIterator[bytes]:
            with file:
                file.seek(start)
                place = start
                while end is None or place < end:
                    enough = block if end is None else min(block, end - place)
                    piece = await asyncio.to_thread(file.read, enough)
                    if not piece:
                        break
                    place += len(piece)
                    yield piece

        return pieces()

    async def copy(self, key: str, target: str) -> None:
        """Copy a blob to another key.

        Raises:
            FileNotFoundError: the blob does not exist.
        """
        await asyncio.to_thread(copy_blob, self._root, key, target)

    def _begin(self, key: str) -> StagedFile:
        self._volume.check()
        return StagedFile(self._root, key)

    def _complete(self, file: StagedFile, key: str) -> None:
        if self._fsync:
            file.force()
        file.become_blob()
        if self._fsync:
            force_folders(self._root, [key])


async def _ended(under_way: Collection[asyncio.Future[None]]) -> None:
    """Wait for threads, and raise the first error. On cancellation, the threads continue."""
    if under_way:
        await asyncio.wait(under_way)
    for each in under_way:
        each.result()


async def read_at_least(read: Read, enough: int) -> Piece:
    """Read at least `enough` bytes; fewer only at the end of the content."""
    pieces = [await read()]
    size = len(pieces[0])
    while size < enough and pieces[-1]:
        pieces.append(await read())
        size += len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

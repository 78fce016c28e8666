"""Blobs as files of a directory: large ones as they come, small ones many at a time.

Small ones are written by threads, or by a process of their own while there is a scribe.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from shared.background.loops import Loop
from shared.blobs.blob_writer_client import BlobWriterClient, dictating
from shared.blobs.files import Piece, Small, StagedFile, Writers, copy_blob, force_folders
from shared.blobs.volume import Volume
from shared.telemetry import SCRIBES_LOST

if TYPE_CHECKING:
    from shared.background.supervision import RunningLoop, Supervisor

Read = Callable[[], Awaitable[Piece]]
"""Gives the next piece of some content; b"" at its end."""

FORCE_EVERY = 4 << 20
"""Bytes of a large blob after which the disk is to begin with them: little is left for the end."""


SCRIBE_LOOK_EVERY = 5.0
"""Seconds between two signs that the scribe lives."""

BLOB_WRITER = Loop(
    name="blob-writer",
    late_after=60.0,
    vital=False,
    purpose="Keeps the process that writes small blobs into a directory.",
    when_late="Small uploads are slower: threads of the pod write them.",
)


class ScribeDiedError(Exception):
    """The process that writes small blobs has died."""


class Directory:
    """Writes blobs. Every method raises `OSError` when the directory does not take them."""

    def __init__(self, volume: Volume, *, fsync: bool) -> None:
        """Args:
        fsync: whether what is durable must survive a power cut.
        """
        self._volume = volume
        self._root = volume.root
        self._fsync = fsync
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stored: dict[Small, asyncio.Future[str]] = {}
        """Who waits for which."""
        self._writers = Writers(volume, self._end_soon)
        self._blob_writer: BlobWriterClient | None = None

    @asynccontextmanager
    async def blob_writer(self, supervisor: "Supervisor | None" = None) -> AsyncIterator[None]:
        """Have a process of its own write the small blobs of the `with` block.

        A thread asks for the interpreter after each of its calls to the system, a dozen for a blob,
        and a busy loop gives it away in milliseconds only.

        Args:
            supervisor: starts another process when one dies; one of its own if none is given.
        """
        from shared.background.supervision import Supervisor

        begun = asyncio.Event()
        supervisor = supervisor or Supervisor()
        async with supervisor.running((BLOB_WRITER, partial(self._run_scribe, begun))):
            await begun.wait()
            yield

    async def _run_scribe(self, begun: asyncio.Event, loop: "RunningLoop") -> None:
        """Have a scribe until it dies, or cannot be started.

        Raises:
            ScribeDiedError: it has died.
            OSError: it cannot be started.
        """
        try:
            async with dictating(self._volume, self._end, self._write) as self._blob_writer:
                begun.set()
                ended = self._blob_writer.ended
                while not ended.is_set():
                    loop.succeeded()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(SCRIBE_LOOK_EVERY):
                            await ended.wait()
            SCRIBES_LOST.inc()
            raise ScribeDiedError("the process that writes small blobs has died")
        finally:
            self._blob_writer = None
            begun.set()

    async def put(
        self, key: str, data: bytes, *, durable: bool = True, anywhere: bool = False
    ) -> str:
        """Store a small blob, replacing what is there; returns its key.

        Args:
            anywhere: whether that may be another one.
        """
        blob = Small(key, data, durable and self._fsync, anywhere)
        self._loop = asyncio.get_running_loop()
        stored: asyncio.Future[str] = self._loop.create_future()
        self._stored[blob] = stored
        if self._blob_writer is None or not self._blob_writer.take(blob):
            self._writers.take([blob])
        return await stored

    def _write(self, blobs: Iterable[Small]) -> None:
        """Do what the scribe did not come to, or may have done: twice is harmless, but for a slice.

        That would be there without anybody who knows its key.
        """
        blobs = list(blobs)
        loose = [blob for blob in blobs if blob.anywhere]
        for blob in loose:
            blob.error = OSError(errno.EIO, "the scribe died")
        self._end(loose)
        self._writers.take([blob for blob in blobs if not blob.anywhere])

    def _end_soon(self, blobs: Sequence[Small]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end, blobs)

    def _end(self, blobs: Iterable[Small]) -> None:
        for blob in blobs:
            stored = self._stored.pop(blob)
            if stored.done():  # Who waited was cancelled.
                continue
            if blob.error is None:
                stored.set_result(blob.key)
            else:
                stored.set_exception(blob.error)

    async def put_large(
        self, key: str, first: Piece, read: Read, see: Callable[[Piece], None]
    ) -> None:
        """Store a large blob: while one block is written and seen, the next one arrives.

        Args:
            first: its first block; `read` gives the others.
            see: called with each block, in order, in a thread beside that which writes.
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
            # Nobody can stop a thread, and a descriptor must not be closed under it.
            if under_way:
                await asyncio.wait(under_way)
            await asyncio.to_thread(file.discard)
            raise

    async def stream(
        self, key: str, block: int, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The blob in pieces of `block` bytes; it is there when this returns.

        Args:
            start, end: the bytes from `start` up to `end`; by default all.

        Raises:
            FileNotFoundError: nothing is stored under this key.
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
        """Have a blob under another key as well.

        Raises:
            FileNotFoundError: nothing is stored under this key.
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
    """Wait for what threads do; raises what one of them raised. Cancelled, it lets them go on."""
    if under_way:
        await asyncio.wait(under_way)
    for each in under_way:
        each.result()


async def read_at_least(read: Read, enough: int) -> Piece:
    """So many bytes or more of what `read` gives; fewer only at its end."""
    pieces = [await read()]
    size = len(pieces[0])
    while size < enough and pieces[-1]:
        pieces.append(await read())
        size += len(pieces[-1])
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)

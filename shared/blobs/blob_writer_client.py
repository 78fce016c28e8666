"""The line to a scribe, which writes small blobs in a process of its own."""

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import cast

from shared.blobs.blob_writer_process import ANSWER, BLOB, INODE
from shared.blobs.files import Small
from shared.blobs.volume import Volume

log = logging.getLogger(__name__)

NUMBERS = 1 << 32
"""Blobs that are told apart by their numbers; so many are never on their way together."""

END_TIMEOUT = 5.0
"""Seconds for the scribe to end once nothing is asked of it any more."""

Tell = Callable[[Iterable[Small]], None]


class BlobWriterClient(asyncio.Protocol):
    """Gives blobs to the scribe. What is on its way is bounded by who waits for it."""

    def __init__(self, stored: Tell, left: Tell) -> None:
        """Args:
        stored: called with blobs that are stored, or have their error.
        left: called with those that have no answer, should the scribe die.
        """
        self._stored = stored
        self._left = left
        self._numbers = itertools.count()
        self._asked: dict[int, Small] = {}
        self._rest = b""
        self._line: asyncio.Transport | None = None
        self.ended = asyncio.Event()
        """Set when the scribe has died, or was told to end."""

    def take(self, blob: Small) -> bool:
        """Have a blob stored; False if there is no scribe any more."""
        if self._line is None or self._line.is_closing():
            return False
        number = next(self._numbers) % NUMBERS
        self._asked[number] = blob
        key = blob.key.encode()
        head = BLOB.pack(number, blob.durable, blob.anywhere, len(key), len(blob.data))
        self._line.writelines((head + key, blob.data))
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the scribe can be spoken to."""
        self._line = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called with answers."""
        data = self._rest + data
        done: list[Small] = []
        begin = 0
        while len(data) - begin >= ANSWER.size:
            number, code, key_size = ANSWER.unpack_from(data, begin)
            end = begin + ANSWER.size + key_size
            if len(data) < end:
                break
            blob = self._asked.pop(number)
            blob.key = data[end - key_size : end].decode()
            blob.error = OSError(code, os.strerror(code)) if code else None
            done.append(blob)
            begin = end
        self._rest = data[begin:]
        self._stored(done)

    def connection_lost(self, error: Exception | None) -> None:
        """Called when the scribe has ended."""
        if self._asked:
            log.error("the scribe died (%r) with %d blobs to write", error, len(self._asked))
        self.ended.set()
        left, self._asked = list(self._asked.values()), {}
        self._left(left)


@asynccontextmanager
async def dictating(volume: Volume, stored: Tell, left: Tell) -> AsyncIterator[BlobWriterClient]:
    """A scribe for the time of a block; `stored` and `left` as in `BlobWriterClient`."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "shared.blobs.blob_writer_process", volume.root]
    environment = {**os.environ, INODE: str(volume.inode)}
    with theirs:
        # In a session of its own: a Ctrl-C is for those who ask it, and it ends when they have.
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            command, stdin=theirs.fileno(), start_new_session=True, env=environment
        )
    line, blob_writer_client = await asyncio.get_running_loop().create_connection(
        lambda: BlobWriterClient(stored, left), sock=ours
    )
    try:
        yield blob_writer_client
    finally:
        line.close()
        await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The client of the blob writer, a separate process that writes small blobs."""

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
"""Number of distinct request numbers; far more than there are pending requests."""

END_TIMEOUT = 5.0
"""Seconds for the blob writer to end after its connection was closed."""

BlobsCallback = Callable[[Iterable[Small]], None]


class BlobWriterClient(asyncio.Protocol):
    """Sends blobs to the blob writer. The callers that wait for them bound the pending requests."""

    def __init__(self, stored: BlobsCallback, unanswered: BlobsCallback) -> None:
        """Create a client without a connection.

        Args:
            stored: called with blobs that are stored or have failed with an error.
            unanswered: called with the blobs that have no response when the blob writer dies.
        """
        self._stored = stored
        self._unanswered = unanswered
        self._numbers = itertools.count()
        self._pending: dict[int, Small] = {}
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()
        """Set when the blob writer has died or its connection was closed."""

    def take(self, blob: Small) -> bool:
        """Send a blob to be stored; return False if the blob writer is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        number = next(self._numbers) % NUMBERS
        self._pending[number] = blob
        key = blob.key.encode()
        head = BLOB.pack(number, blob.durable, blob.anywhere, len(key), len(blob.data))
        self._transport.writelines((head + key, blob.data))
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to the blob writer."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Process responses."""
        data = self._rest + data
        done: list[Small] = []
        begin = 0
        while len(data) - begin >= ANSWER.size:
            number, code, key_size = ANSWER.unpack_from(data, begin)
            end = begin + ANSWER.size + key_size
            if len(data) < end:
                break
            blob = self._pending.pop(number)
            blob.key = data[end - key_size : end].decode()
            blob.error = OSError(code, os.strerror(code)) if code else None
            done.append(blob)
            begin = end
        self._rest = data[begin:]
        self._stored(done)

    def connection_lost(self, error: Exception | None) -> None:
        """Hand the unanswered blobs back after the blob writer has ended."""
        if self._pending:
            log.error(
                "the blob writer died (%r) with %d unwritten blobs", error, len(self._pending)
            )
        self.ended.set()
        unanswered, self._pending = list(self._pending.values()), {}
        self._unanswered(unanswered)


@asynccontextmanager
async def running_blob_writer(
    volume: Volume, stored: BlobsCallback, unanswered: BlobsCallback
) -> AsyncIterator[BlobWriterClient]:
    """Run a blob writer for the block; for `stored` and `unanswered` see `BlobWriterClient`."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "shared.blobs.blob_writer_process", volume.root]
    environment = {**os.environ, INODE: str(volume.inode)}
    with theirs:
        # A session of its own protects it from Ctrl-C: it ends after this process.
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            command, stdin=theirs.fileno(), start_new_session=True, env=environment
        )
    transport, blob_writer_client = await asyncio.get_running_loop().create_connection(
        lambda: BlobWriterClient(stored, unanswered), sock=ours
    )
    try:
        yield blob_writer_client
    finally:
        transport.close()
        await asyncio.to_thread(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

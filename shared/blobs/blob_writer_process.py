"""The blob writer: a process that writes small blobs for another process.

Started as `python -m shared.blobs.blob_writer_process ROOT`.

Its standard input is a socket. For each blob it sends a response with the blob's number, the result
and the key, in order of completion. When the other side closes the socket, it writes the remaining
blobs and ends.
"""

import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from shared.blobs.files import AT_ONCE, Small, is_refused, store_together
from shared.blobs.packs import PackWriter
from shared.blobs.volume import Volume

BLOB = struct.Struct("!I??HI")
"""The header of a request: the blob's number, `durable`, `anywhere`, and the sizes of the key and
the content, which follow."""

ANSWER = struct.Struct("!IIH")
"""The header of a response: the blob's number, the errno (0 if it is stored), and the size of the
key, which follows."""

WRITERS = 2
"""Threads. While the disk flushes the batch of one, another writes the blobs that have arrived
since. More threads would split the same blobs into more batches with one flush each."""

INODE = "BLOB_WRITER_INODE"
"""Environment variable with the inode number of the directory. The volume may have been unmounted
before this process started."""

BUFFER = 2 << 20
"""Bytes of the receive buffer. It is reused, because allocating a buffer takes longer than filling
it. A larger blob makes it grow."""


class BlobWriter:
    """Threads that take turns at reading from the socket.

    The thread that has read requests also executes them, without a handover, while the next thread
    reads.
    """

    def __init__(self, volume: Volume, connection: socket.socket) -> None:
        self._volume = volume
        self._connection = connection
        self._reading, self._sending = threading.Lock(), threading.Lock()
        self._buffer = bytearray(BUFFER)
        self._filled = 0

    def run(self) -> None:
        """Serve requests until the other side has closed the socket and all blobs are stored."""
        threads = [threading.Thread(target=self._take_turns) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _take_turns(self) -> None:
        pack = PackWriter(Path(self._volume.root))
        while requests := self._next():
            for begin in range(0, len(requests), AT_ONCE):
                self._store(requests[begin : begin + AT_ONCE], pack)
        pack.close()

    def _next(self) -> list[tuple[int, Small]]:
        """Return the next requests with their numbers; an empty list at the end."""
        with self._reading:
            while size := self._receive():
                self._filled += size
                requests, taken = _whole_blobs(memoryview(self._buffer)[: self._filled])
                self._buffer[: self._filled - taken] = self._buffer[taken : self._filled]
                self._filled -= taken
                if requests:
                    return requests
        return []

    def _receive(self) -> int:
        if self._filled == len(self._buffer):
            self._buffer += bytes(self._filled)
        try:
            return self._connection.recv_into(memoryview(self._buffer)[self._filled :])
        except ConnectionResetError:  # The other side died with unread responses.
            return 0

    def _store(self, requests: Sequence[tuple[int, Small]], pack: PackWriter) -> None:
        blobs = [blob for _, blob in requests]
        if not is_refused(self._volume, blobs):
            store_together(self._volume.root, pack.take(blobs))
        answers = [_answer(number, blob) for number, blob in requests]
        with self._sending, suppress(OSError):  # The other side may be gone.
            self._connection.sendall(b"".join(answers))


def _whole_blobs(received: memoryview) -> tuple[list[tuple[int, Small]], int]:
    """Return the complete blobs with their numbers, and the bytes that they take."""
    found: list[tuple[int, Small]] = []
    begin = 0
    while len(received) - begin >= BLOB.size:
        number, durable, anywhere, key_size, size = BLOB.unpack_from(received, begin)
        content = begin + BLOB.size + key_size
        if len(received) < content + size:
            break
        key = str(received[content - key_size : content], "utf-8")
        begin = content + size
        found.append((number, Small(key, bytes(received[content:begin]), durable, anywhere)))
    return found, begin


def _answer(number: int, blob: Small) -> bytes:
    key = blob.key.encode()
    return ANSWER.pack(number, _code(blob.error), len(key)) + key


def _code(error: Exception | None) -> int:
    if error is None:
        return 0
    return (isinstance(error, OSError) and error.errno) or errno.EIO


if __name__ == "__main__":
    expected = os.environ.get(INODE)
    volume = Volume(sys.argv[1], inode=int(expected) if expected else None)
    BlobWriter(volume, socket.socket(fileno=sys.stdin.fileno())).run()

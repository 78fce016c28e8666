"""The blob writer process: writes small blobs for another process.

Started as `python -m shared.blobs.blob_writer_process ROOT`.

Its standard input is a socket. Each blob that comes over it is answered with its number, how it
went and its key, in the order in which they are done. When the other side closes, it finishes and
ends.
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
"""What comes before a blob: its number, whether it is durable and may stand anywhere, and the sizes
of its key and its content, which follow."""

ANSWER = struct.Struct("!IIH")
"""A blob's number, the number of the system's error, 0 if it is stored, and the size of its key,
which follows."""

WRITERS = 2
"""Threads: while the disk takes what one has written, another writes what has come meanwhile. A
third and a fourth would divide the same into more batches, each of which the disk is waited for."""

INODE = "SCRIBE_INODE"
"""The environment variable that has the inode number of the directory: the volume may have been
unmounted before this process began."""

BUFFER = 2 << 20
"""Bytes that are read from the socket at a time. They are kept, as the system takes longer to find
memory for a buffer than to fill it; a larger blob makes it grow."""


class Scribe:
    """Threads that take turns at the socket, so that what is asked for is in the hands at once that
    write it: one reads what has come, and the next one reads while it stores that."""

    def __init__(self, volume: Volume, line: socket.socket) -> None:
        self._volume = volume
        self._line = line
        self._reading, self._speaking = threading.Lock(), threading.Lock()
        self._given = bytearray(BUFFER)
        self._filled = 0

    def work(self) -> None:
        """Return when the other side has closed and all is stored."""
        threads = [threading.Thread(target=self._take_turns) for _ in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _take_turns(self) -> None:
        pack = PackWriter(Path(self._volume.root))
        while asked := self._next():
            for begin in range(0, len(asked), AT_ONCE):
                self._store(asked[begin : begin + AT_ONCE], pack)
        pack.close()

    def _next(self) -> list[tuple[int, Small]]:
        """What has come meanwhile, with its numbers; nothing at the end."""
        with self._reading:
            while size := self._receive():
                self._filled += size
                asked, taken = _whole_blobs(memoryview(self._given)[: self._filled])
                self._given[: self._filled - taken] = self._given[taken : self._filled]
                self._filled -= taken
                if asked:
                    return asked
        return []

    def _receive(self) -> int:
        if self._filled == len(self._given):
            self._given += bytes(self._filled)
        try:
            return self._line.recv_into(memoryview(self._given)[self._filled :])
        except ConnectionResetError:  # The other side died with answers unread.
            return 0

    def _store(self, asked: Sequence[tuple[int, Small]], pack: PackWriter) -> None:
        blobs = [blob for _, blob in asked]
        if not is_refused(self._volume, blobs):
            store_together(self._volume.root, pack.take(blobs))
        answers = [_answer(number, blob) for number, blob in asked]
        with self._speaking, suppress(OSError):  # Nobody may be left to hear it.
            self._line.sendall(b"".join(answers))


def _whole_blobs(given: memoryview) -> tuple[list[tuple[int, Small]], int]:
    """The blobs that are there as a whole, each with its number, and how many bytes they are."""
    found: list[tuple[int, Small]] = []
    begin = 0
    while len(given) - begin >= BLOB.size:
        number, durable, anywhere, key_size, size = BLOB.unpack_from(given, begin)
        content = begin + BLOB.size + key_size
        if len(given) < content + size:
            break
        key = str(given[content - key_size : content], "utf-8")
        begin = content + size
        found.append((number, Small(key, bytes(given[content:begin]), durable, anywhere)))
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
    Scribe(volume, socket.socket(fileno=sys.stdin.fileno())).work()

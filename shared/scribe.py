"""The scribe: a process that writes small blobs for another one, `python -m shared.scribe ROOT`.

Its standard input is a socket. Each blob that comes over it is answered with its number and how it
went, in the order in which they are done. When the other side closes, it finishes and ends.
"""

import errno
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

from shared.files import Small, Writers

BLOB = struct.Struct("!I??HI")
"""What comes before a blob: its number, whether it is durable and unknown, two sizes."""

ANSWER = struct.Struct("!II")
"""A blob's number, and the number of the system's error, 0 if it is stored."""

BUFFER = 1 << 20
"""Bytes that are read from the socket at a time."""


class Scribe:
    """Takes blobs from a socket to its writers, and their answers back."""

    def __init__(self, root: str, line: socket.socket) -> None:
        self._line = line
        self._speaking = threading.Lock()
        self._numbers: dict[Small, int] = {}
        self._writers = Writers(root, self._answer)

    def work(self) -> None:
        """Return when the other side has closed and all is stored."""
        given = bytearray()
        while piece := self._line.recv(BUFFER):
            given += piece
            blobs = dict(_take_blobs(given))
            self._numbers.update(blobs)
            self._writers.take(blobs)
        self._writers.finish()

    def _answer(self, blobs: Sequence[Small]) -> None:
        answers = [ANSWER.pack(self._numbers.pop(blob), _code(blob.error)) for blob in blobs]
        with self._speaking, suppress(OSError):  # Nobody may be left to hear it.
            self._line.sendall(b"".join(answers))


def _take_blobs(given: bytearray) -> Iterator[tuple[Small, int]]:
    """The blobs that are there as a whole, each with its number; they are taken away."""
    begin = 0
    while len(given) - begin >= BLOB.size:
        number, durable, unknown, key_size, size = BLOB.unpack_from(given, begin)
        content = begin + BLOB.size + key_size
        if len(given) < content + size:
            break
        key = given[content - key_size : content].decode()
        begin = content + size
        yield Small(key, bytes(given[content:begin]), durable, unknown), number
    del given[:begin]


def _code(error: Exception | None) -> int:
    if error is None:
        return 0
    return (isinstance(error, OSError) and error.errno) or errno.EIO


if __name__ == "__main__":
    Scribe(sys.argv[1], socket.socket(fileno=sys.stdin.fileno())).work()

"""File writes that are complete or raise an error.

`os.write` can write less than requested. When a disk fills up, it writes what fits and returns that
number; only the next call raises `ENOSPC`. Unbuffered file objects behave the same way. All code
that writes to a file uses this module; `tests/shared/test_writing.py` enforces it.
"""

import errno
import os
from pathlib import Path

Data = bytes | bytearray | memoryview

MAX_PIECES = 1024
"""Pieces of one `writev` call: Linux's IOV_MAX."""


def write_all(descriptor: int, *pieces: Data) -> None:
    """Write all pieces, one after another, at the descriptor's position.

    Raises:
        OSError: the write failed; an unknown part of the data may have been written.
    """
    rest = [memoryview(piece) for piece in pieces if len(piece)]
    while rest:
        written = os.writev(descriptor, rest[:MAX_PIECES])
        if written == 0:
            raise OSError(errno.EIO, "the file takes no more data")
        rest = _after(rest, written)


def _after(pieces: list[memoryview], written: int) -> list[memoryview]:
    """Return the rest of the pieces after this many bytes."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return []


def write_file(path: Path | str, content: Data | str, *, mode: int = 0o644) -> None:
    """Write a file and replace its previous content. Text is encoded as UTF-8.

    Args:
        mode: permissions of a new file.

    Raises:
        OSError: the write failed, possibly only on closing the file.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def overwrite_file(path: Path | str, content: Data, *, mode: int = 0o600) -> None:
    """Write a file in place, reusing its blocks, and truncate it to the length of the content.

    ext4 flushes a file immediately if it was truncated first and then written; this avoids that.

    Raises:
        OSError: the write failed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode)
    try:
        write_all(descriptor, content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)

"""Writing to files: every byte is written, or an error is raised.

`os.write` may write less than it was given. Where a disk fills up it writes what fits and returns
that number; only the next call raises `ENOSPC`. Unbuffered file objects behave the same way. All
code that writes to a file uses this module; `tests/shared/test_writing.py` enforces it.
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
        OSError: not everything could be written; an unknown part of it may have been.
    """
    rest = [memoryview(piece) for piece in pieces if len(piece)]
    while rest:
        written = os.writev(descriptor, rest[:MAX_PIECES])
        if written == 0:
            raise OSError(errno.EIO, "the file takes no more data")
        rest = _after(rest, written)


def _after(pieces: list[memoryview], written: int) -> list[memoryview]:
    """Return what is left of the pieces after this many bytes."""
    for number, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[number + 1 :]]
        written -= len(piece)
    return []


def write_file(path: Path | str, content: Data | str, *, mode: int = 0o644) -> None:
    """Write a file, replacing what is there. Text is encoded as UTF-8.

    Args:
        mode: permissions of a file that does not exist yet.

    Raises:
        OSError: not everything could be written, or the file system reports that on closing.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def overwrite_file(path: Path | str, content: Data, *, mode: int = 0o600) -> None:
    """Write a file in place, reusing its blocks, and cut off what is longer than the content.

    ext4 forces a file to the disk at once if it was emptied and then written; this avoids that.

    Raises:
        OSError: not everything could be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, mode)
    try:
        write_all(descriptor, content)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)

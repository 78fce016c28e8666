"""Files that a worker left for the pod: read without following anything that it may have put there.

Whoever took over a worker may leave symbolic links, hard links, FIFOs or devices in place of files,
and may change a file while it is read. So a file is opened once, checked by its descriptor, and
read up to the size that was announced.
"""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

FOLDER = "artifacts"
"""Where the pod puts, within the directory of an attempt, what the worker left."""

BLOCK = 1 << 20
"""Bytes that are read at a time."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LeftFileError(Exception):
    """What a worker left is not the file that it announced; the message says why."""


class LeftFile:
    """An open file of known size."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self.size = size

    async def read_block(self) -> bytes:
        """Return the next bytes without holding up the event loop, as `read` does."""
        return await asyncio.to_thread(self.read, BLOCK)

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes at most; b"" once all announced bytes were read.

        Raises:
            LeftFileError: it has fewer bytes than announced.
        """
        if not self._left:
            return b""
        data = os.read(self._descriptor, min(length, self._left))
        if not data:
            raise LeftFileError(f"it ends {self._left} bytes before its announced size")
        self._left -= len(data)
        return data


@contextmanager
def open_left_file(scratch: str, name: str, *, size: int) -> Iterator[LeftFile]:
    """Open a file that a worker left.

    Args:
        scratch: the directory of the attempt.
        size: bytes that the worker announced.

    Raises:
        LeftFileError: it is missing, no regular file, known by other names, or of another size.
    """
    try:
        folder = os.open(f"{scratch}/{FOLDER}", _FOLDER_FLAGS)
        try:
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LeftFileError(f"it cannot be opened ({error.strerror})") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise LeftFileError("it is not a regular file")
        if found.st_nlink != 1:
            raise LeftFileError("it is a hard link")
        if found.st_size != size:
            raise LeftFileError(f"it has {found.st_size} bytes, and {size} were announced")
        yield LeftFile(descriptor, size)
    finally:
        os.close(descriptor)

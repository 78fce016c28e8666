"""Read files that a worker left for the pod, without trusting anything in their directory.

A compromised worker may leave symbolic links, hard links, FIFOs or devices in place of files, and
may change a file while it is read. Each file is therefore opened once, checked through its
descriptor, and read up to the announced size.
"""

import asyncio
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

FOLDER = "artifacts"
"""Subdirectory of the attempt's directory into which the pod moves the worker's files."""

BLOCK = 1 << 20
"""Bytes read at a time."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OutputFileError(Exception):
    """A worker's file does not match its announcement; the message says why."""


class OutputFile:
    """An open file of known size."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self.size = size

    async def read_block(self) -> bytes:
        """Return the next bytes, read in a thread so that the event loop is not blocked."""
        return await asyncio.to_thread(self.read, BLOCK)

    def read(self, length: int) -> bytes:
        """Return the next bytes, at most `length`; b"" once all announced bytes are read.

        Raises:
            OutputFileError: the file is shorter than announced.
        """
        if not self._left:
            return b""
        data = os.read(self._descriptor, min(length, self._left))
        if not data:
            raise OutputFileError(f"the file ends {self._left} bytes before its announced size")
        self._left -= len(data)
        return data


@contextmanager
def open_output_file(scratch: str, name: str, *, size: int) -> Iterator[OutputFile]:
    """Open a file that a worker left, for reading.

    Args:
        scratch: the directory of the attempt.
        size: bytes announced by the worker.

    Raises:
        OutputFileError: it is missing, is not a regular file, has other names, or another size.
    """
    try:
        folder = os.open(f"{scratch}/{FOLDER}", _FOLDER_FLAGS)
        try:
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OutputFileError(f"the file cannot be opened ({error.strerror})") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OutputFileError("it is not a regular file")
        if found.st_nlink != 1:
            raise OutputFileError("it is a hard link")
        if found.st_size != size:
            raise OutputFileError(f"the file has {found.st_size} bytes; {size} were announced")
        yield OutputFile(descriptor, size)
    finally:
        os.close(descriptor)

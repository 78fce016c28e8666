"""Give a worker access to its file and to no other file.

A small file is sent inside the job, which is fastest. A large file is hard-linked, first into the
directory of the attempt, then into the folder of the worker. Where the file system does not allow
the link, the file is copied. A worker never sees the blob store.
"""

import asyncio
import errno
import hashlib
import itertools
import logging
import os
import stat
from functools import cache
from pathlib import Path

from services.processor.channel import MAX_CONTENT, Job, Packed, encode_job
from services.processor.source import (
    BLOCK,
    COPY,
    ContentChangedError,
    read_from_store,
    require_room,
)
from shared.blobs.bloberrors import BlobMissingError, missing_or_unavailable
from shared.blobs.files import read_from_memory
from shared.blobs.packs import Packs
from shared.writing import write_all, write_file

log = logging.getLogger(__name__)

READABLE = 0o444
"""Mode of files for workers, which may run as other users, whatever the pod's umask."""

_numbers = itertools.count(1)


async def prepare(job: Job) -> "Handover":
    """Prepare a job so that any worker can run it.

    Raises:
        BlobMissingError: the file no longer exists.
        ContentChangedError: its content does not match the recorded SHA-256.
        BlobStoreUnavailableError: the file cannot be read.
        FrameTooLargeError: the job exceeds `MAX_JOB`.
        OSError: the file cannot be copied.
    """
    source, path = job.source, f"{job.scratch}/{COPY}"
    if isinstance(source, Packed):
        with read_from_store(source.root, source.key):
            content = await _slice(source)
        if len(content) <= MAX_CONTENT:
            return Handover(job, content)
        await asyncio.to_thread(_write, path, content, source.sha256)
        return Handover(job, path)
    if job.size <= MAX_CONTENT:
        with missing_or_unavailable(source):
            small = read_from_memory(source, job.size)
            content = await asyncio.to_thread(Path(source).read_bytes) if small is None else small
        if len(content) <= MAX_CONTENT:
            return Handover(job, content)
    try:
        await asyncio.to_thread(_link_or_copy, source, path)
    except FileNotFoundError as error:
        raise BlobMissingError(source) from error
    return Handover(job, path)


async def _slice(source: Packed) -> bytes | bytearray:
    """Return the content. Recent files are read from memory, which is faster than a thread."""
    packs = _packs(source.root)
    content = packs.read_from_memory(source.key)
    return await asyncio.to_thread(packs.read, source.key) if content is None else content


@cache
def _packs(root: str) -> Packs:
    return Packs(Path(root))


def _write(path: str, content: bytes | bytearray, sha256: str | None) -> None:
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise ContentChangedError
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content)
    os.chmod(path, READABLE)  # noqa: PTH101


def _link_or_copy(source: str, target: str) -> None:
    if source == target:
        os.chmod(target, READABLE)  # noqa: PTH101 - it was copied from an object store
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).unlink(missing_ok=True)
    if os.stat(source).st_mode & stat.S_IROTH:  # noqa: PTH116
        try:
            os.link(os.path.realpath(source), target)
        except FileNotFoundError:
            raise
        except OSError:
            pass  # Another file system, no support for links, or another user's file.
        else:
            return
    require_room(Path(target).parent, os.stat(source).st_size)  # noqa: PTH116
    _copy(source, target)


def _copy(source: str, target: str) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(descriptor, READABLE)
        with open(source, "rb", buffering=0) as content:  # noqa: PTH123
            while block := content.read(BLOCK):
                write_all(descriptor, block)
            if os.fstat(descriptor).st_size != os.fstat(content.fileno()).st_size:
                raise OSError(errno.EIO, "the copy is shorter or longer than the file", target)
    finally:
        os.close(descriptor)


class Handover:
    """A prepared job, with its content or its file in the attempt's directory."""

    def __init__(self, job: Job, file: bytes | bytearray | str) -> None:
        """Create a handover.

        Args:
            file: the content, or the path of the file.
        """
        self._path = file if isinstance(file, str) else None
        self._link: str | None = None
        self._name = 0 if self._path is None else next(_numbers)
        content = b"" if isinstance(file, str) else file
        self.message = encode_job(job, link=self._name, content=content)
        self.scratch = job.scratch

    def create_link(self, folder: Path) -> None:
        """Link the file into a worker's folder.

        Raises:
            OSError: the file no longer exists, or the disk is full.
        """
        if self._path is not None:
            self._link = f"{folder}/{self._name}"
            os.link(self._path, self._link)

    def remove_link(self) -> None:
        """Remove that link."""
        link, self._link = self._link, None
        if link is not None:
            try:
                Path(link).unlink(missing_ok=True)
            except OSError as error:  # It is removed with the worker; the outcome must not be lost.
                log.warning("%s remains until its worker exits: %s", link, error)

"""How a worker gets the file to work on, without being able to reach any other.

A small file goes with the job, since that is the fastest way. A large one gets a second name, first
in the directory of the attempt and then in the folder of the worker that does the job; it is copied
where the file system allows no second name. Nothing here lets a worker see the blob store.
"""

import asyncio
import errno
import hashlib
import itertools
import os
import stat
from pathlib import Path

from services.processor.channel import MAX_CONTENT, Job, Packed
from services.processor.source import COPY, ContentChangedError
from shared.bloberrors import BlobMissingError, missing_or_unavailable
from shared.files import read_from_memory
from shared.packs import Packs
from shared.writing import write_all, write_file

BLOCK = 1 << 20
"""Bytes that are copied at a time."""

_LOOSE = Packed(root="", key="", sha256=None)
"""Where the content comes from that goes with a job: no concern of the worker's."""

_numbers = itertools.count(1)


async def prepare(job: Job) -> Job:
    """Return the job as it can be handed to any worker.

    Raises:
        BlobMissingError: the file is gone.
        ContentChangedError: it is not the one that was announced.
        BlobStoreUnavailableError: it cannot be read.
        OSError: it cannot be copied.
    """
    source, path = job.source, f"{job.scratch}/{COPY}"
    if isinstance(source, Packed):
        with missing_or_unavailable(source.key):
            content = await _slice(source)
        if len(content) <= MAX_CONTENT:
            loose = Packed(root="", key="", sha256=source.sha256)
            return job.model_copy(update={"content": content, "source": loose})
        await asyncio.to_thread(_write, path, content, source.sha256)
        return job.model_copy(update={"source": path})
    if job.size <= MAX_CONTENT:
        with missing_or_unavailable(source):
            small = read_from_memory(source, job.size)
            content = await asyncio.to_thread(Path(source).read_bytes) if small is None else small
        if len(content) <= MAX_CONTENT:
            return job.model_copy(update={"content": content, "source": _LOOSE})
    try:
        await asyncio.to_thread(_link_or_copy, source, path)
    except FileNotFoundError as error:
        raise BlobMissingError(source) from error
    return job.model_copy(update={"source": path})


async def _slice(source: Packed) -> bytes:
    """Return the content; what was stored just now is in memory, and a thread takes longer."""
    packs = Packs(Path(source.root))
    content = packs.read_from_memory(source.key)
    return await asyncio.to_thread(packs.read, source.key) if content is None else content


def _write(path: str, content: bytes, sha256: str | None) -> None:
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise ContentChangedError
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content, mode=0o444)


def _link_or_copy(source: str, target: str) -> None:
    if source == target:
        os.chmod(target, 0o444)  # noqa: PTH101 - it was copied from an object store
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).unlink(missing_ok=True)
    if os.stat(source).st_mode & stat.S_IROTH:  # noqa: PTH116
        try:
            os.link(os.path.realpath(source), target)
        except FileNotFoundError:
            raise
        except OSError:
            pass  # Another file system, one without links, or another user's file.
        else:
            return
    _copy(source, target)


def _copy(source: str, target: str) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    try:
        with open(source, "rb", buffering=0) as content:  # noqa: PTH123
            while block := content.read(BLOCK):
                write_all(descriptor, block)
            if os.fstat(descriptor).st_size != os.fstat(content.fileno()).st_size:
                raise OSError(errno.EIO, "the copy is not as long as the file", target)
    finally:
        os.close(descriptor)


class Handover:
    """A prepared job's file on its way into a worker's folder."""

    def __init__(self, job: Job) -> None:
        self._path = job.source if isinstance(job.source, str) else None
        self._link: str | None = None
        self.name = "" if self._path is None else str(next(_numbers))
        """Of the file in the worker's folder."""

    def enter(self, folder: Path) -> None:
        """Give the file a name in a worker's folder.

        Raises:
            OSError: it is gone, or the disk is full.
        """
        if self._path is not None:
            self._link = f"{folder}/{self.name}"
            os.link(self._path, self._link)

    def leave(self) -> None:
        """Take that name away again."""
        if self._link is not None:
            Path(self._link).unlink(missing_ok=True)
            self._link = None

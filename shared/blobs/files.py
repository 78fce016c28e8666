"""Threads that write blobs to files, without asyncio.

A thread takes a share of the waiting small blobs, writes them, and flushes them together, which is
much cheaper than flushing one after another. A blob is written to a staging folder and then
renamed, so that no reader sees an incomplete one. Files that a dead process leaves there are swept.
"""

import itertools
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.blobs.volume import Volume
from shared.writing import write_all

STAGED = "staged"
"""The folder of incomplete blobs, in the same file system so that files can be renamed."""

WRITERS = 4
"""Threads for small blobs. The disk combines concurrent flushes. With two threads, a blob could
wait for the current batch and then for a large one of its own; eight used more CPU time for the
same throughput."""

AT_ONCE = 64
"""Maximum small blobs in one batch of a thread, each with an open file."""

_PROCESS, _numbers = uuid.uuid4().hex, itertools.count()
"""Parts of the names of staged files, unique among all processes."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

Piece = bytes | bytearray | memoryview
"""Bytes that are not modified any more."""

force_content = getattr(os, "fdatasync", os.fsync)
"""Flushes the content of a file to disk. macOS has only `fsync`."""


_NO_WAIT = getattr(os, "RWF_NOWAIT", None)
"""Flag that makes Linux read from the page cache only."""


def pread_from_memory(descriptor: int, size: int, offset: int) -> bytearray | None:
    """Return `size` bytes of an open file, or None if the read would wait for the disk.

    For event loops, which must not block; a switch to a thread takes longer than the read.
    """
    if _NO_WAIT is None:
        return None
    buffer = bytearray(size)
    try:
        read = os.preadv(descriptor, [buffer], offset, _NO_WAIT) if size else 0
    except OSError:  # Not in the page cache, or not supported by the file system.
        return None
    return buffer if read == size else None


def read_from_memory(path: str, size: int) -> bytearray | None:
    """Return a whole file, or None if it does not have `size` bytes or is not in the page cache.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size != size:
            return None
        return pread_from_memory(descriptor, size, 0)
    finally:
        os.close(descriptor)


class StagedFile:
    """A file that will become a blob. Its methods block on disk I/O."""

    def __init__(self, root: str, key: str) -> None:
        # pathlib would take a third of the Python time per small blob.
        self._target = f"{root}/{key}"
        self._path = f"{root}/{STAGED}/{_PROCESS}.{next(_numbers)}"
        try:
            self._descriptor = os.open(self._path, _NEW, 0o644)
        except FileNotFoundError:
            _make_folder_of(self._path)
            self._descriptor = os.open(self._path, _NEW, 0o644)

    def write(self, data: Piece) -> None:
        """Append data."""
        write_all(self._descriptor, data)

    def begin_to_force(self) -> None:
        """Start writeback without waiting: Linux writes pages that it need not cache."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def force(self) -> None:
        """Flush the written data to disk."""
        force_content(self._descriptor)

    def become_blob(self) -> None:
        """Rename the file to the blob's name. The blob is durable once its folders are flushed.

        The file is closed first: network file systems report a full disk only on closing.
        """
        self._close()
        try:
            os.rename(self._path, self._target)  # noqa: PTH104
        except FileNotFoundError:
            _make_folder_of(self._target)
            os.rename(self._path, self._target)  # noqa: PTH104

    def discard(self) -> None:
        """Delete the staged file."""
        self._close()
        Path(self._path).unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


def copy_blob(root: str, key: str, target: str) -> None:
    """Copy a blob to another key, as a hard link if possible: blobs are immutable.

    Raises:
        FileNotFoundError: the blob does not exist.
    """
    source, place = f"{root}/{key}", f"{root}/{target}"
    _make_folder_of(place)
    try:
        os.link(source, place)
    except OSError:  # The target exists, or the file system has no hard links.
        with open(source, "rb") as content:  # noqa: PTH123
            copy = StagedFile(root, target)
            try:
                while block := content.read(1 << 20):
                    copy.write(block)
                copy.become_blob()
            except BaseException:
                copy.discard()
                raise


def _make_folder_of(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def force_folders(root: str, keys: Iterable[str]) -> None:
    """Flush all folders between blobs and `root`, so that the names of the blobs are durable.

    Raises:
        OSError: a folder cannot be flushed.
    """
    folders = {key.rpartition("/")[0] for key in keys}
    above = {folder[:end] for folder in folders for end in _ends(folder)}
    for folder in sorted(above, reverse=True):
        descriptor = os.open(f"{root}/{folder}", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ends(folder: str) -> list[int]:
    """Return the lengths of the paths of a folder and all its parents."""
    return [0, *(at for at, letter in enumerate(folder) if letter == "/"), len(folder)]


@dataclass(eq=False)
class Small:
    """A small blob to be stored."""

    key: str
    data: bytes
    durable: bool
    """True if it must survive a power failure."""
    anywhere: bool = False
    """True if it may be stored under another key, which then replaces `key`."""
    file: StagedFile | None = None
    error: Exception | None = None
    """The error if storing failed."""


def store_together(root: str, blobs: Sequence[Small]) -> None:
    """Store blobs as a batch, and set `error` in each blob that fails."""
    try:
        _store_together(root, blobs)
    except Exception as error:  # A bug must not leave callers waiting forever.
        for blob in blobs:
            blob.error = blob.error or error


def _store_together(root: str, blobs: Sequence[Small]) -> None:
    def each(step: Callable[[Small, StagedFile], None], *, durable_only: bool = False) -> None:
        for blob in blobs:
            if blob.error is None and (blob.durable or not durable_only):
                try:
                    blob.file = blob.file or StagedFile(root, blob.key)
                    step(blob, blob.file)
                except OSError as error:
                    blob.error = error
                    if blob.file is not None:
                        blob.file.discard()

    each(lambda blob, file: file.write(blob.data))
    each(lambda _, file: file.begin_to_force(), durable_only=True)
    each(lambda _, file: file.force(), durable_only=True)
    each(lambda _, file: file.become_blob())
    named = [blob for blob in blobs if blob.durable and blob.error is None]
    try:
        force_folders(root, [blob.key for blob in named])
    except OSError as error:
        for blob in named:
            blob.error = error


def is_refused(volume: Volume, blobs: Iterable[Small]) -> bool:
    """Check the volume. If it is lost, set `error` in each blob and return True."""
    try:
        volume.check()
    except OSError as error:
        for blob in blobs:
            blob.error = error
        return True
    return False


class Writers:
    """Threads that store small blobs."""

    def __init__(self, volume: Volume, stored: Callable[[Sequence[Small]], None]) -> None:
        """Create the writers; their threads start with the first blobs.

        Args:
            stored: called in a thread with blobs that are stored or have failed with an error.
        """
        self._volume = volume
        self._stored = stored
        self._changed = threading.Condition()
        self._waiting: deque[Small] = deque()
        self._free = WRITERS
        self._threads: list[threading.Thread] = []

    def take(self, blobs: Collection[Small]) -> None:
        """Queue blobs for the threads."""
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, daemon=True) for _ in range(WRITERS)
            ]
            for thread in self._threads:
                thread.start()
        with self._changed:
            self._waiting.extend(blobs)
            self._changed.notify(len(blobs))

    def _work(self) -> None:
        while True:
            blobs = self._share()
            if not is_refused(self._volume, blobs):
                store_together(self._volume.root, blobs)
            self._stored(blobs)
            with self._changed:
                self._free += 1

    def _share(self) -> list[Small]:
        """Wait for blobs, and take a share of the queue."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            share = min(AT_ONCE, -(-len(self._waiting) // self._free))
            self._free -= 1
            return [self._waiting.popleft() for _ in range(share)]


def force_blob(root: Path, key: str) -> None:
    """Flush a blob and its parent folders to disk."""
    descriptor = os.open(root / key, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    force_folders(str(root), [key])

"""Files that become blobs, written by threads; nothing here knows of asyncio.

A thread takes its share of all small blobs that wait, writes them, and has the disk take them
together, which costs a fraction of one after another. A blob is written in a folder aside and then
renamed, so that nobody reads half of it; what a process that died leaves there is swept.
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
"""The folder of what is not complete yet; in the same file system, so that it can be renamed."""

WRITERS = 4
"""Threads for small blobs. The disk takes what several force at a time together; with two, who came
second waited for the batch under way and then for a large one of its own, and eight took more
processor time for no more blobs."""

AT_ONCE = 64
"""Small blobs that a thread writes together, with as many open files, if all threads are busy."""

_PROCESS, _numbers = uuid.uuid4().hex, itertools.count()
"""What names staged files: no two processes may take the same."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

Piece = bytes | bytearray | memoryview
"""Some bytes that nobody writes to any more."""

force_content = getattr(os, "fdatasync", os.fsync)
"""Has the disk take what stands in a file. macOS has only `fsync`."""


_NO_WAIT = getattr(os, "RWF_NOWAIT", None)
"""Has Linux read what is in memory only."""


def pread_from_memory(descriptor: int, size: int, offset: int) -> bytearray | None:
    """Return `size` bytes of an open file, or None if that would wait for the disk.

    For an event loop, which must not wait: to have a thread read takes longer than reading.
    """
    if _NO_WAIT is None:
        return None
    buffer = bytearray(size)
    try:
        read = os.preadv(descriptor, [buffer], offset, _NO_WAIT) if size else 0
    except OSError:  # It is not in memory, or this file system knows no such call.
        return None
    return buffer if read == size else None


def read_from_memory(path: str, size: int) -> bytearray | None:
    """Return a whole file of `size` bytes, or None if it has another size or must be waited for.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size != size:
            return None
        return pread_from_memory(descriptor, size, 0)
    finally:
        os.close(descriptor)


class StagedFile:
    """A file that is to become a blob. Its methods wait for the disk."""

    def __init__(self, root: str, key: str) -> None:
        # Paths of pathlib took a third of the time that Python spends on a small blob.
        self._target = f"{root}/{key}"
        self._path = f"{root}/{STAGED}/{_PROCESS}.{next(_numbers)}"
        try:
            self._descriptor = os.open(self._path, _NEW, 0o644)
        except FileNotFoundError:
            _make_folder_of(self._path)
            self._descriptor = os.open(self._path, _NEW, 0o644)

    def write(self, data: Piece) -> None:
        """Add to it."""
        write_all(self._descriptor, data)

    def begin_to_force(self) -> None:
        """Have the disk begin, without waiting: Linux writes at once what it need not keep."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def force(self) -> None:
        """Wait until the disk has what was written so far."""
        force_content(self._descriptor)

    def become_blob(self) -> None:
        """Take the blob's name. It is durable once its folders are.

        The file is closed first: network file systems report a full disk only then.
        """
        self._close()
        try:
            os.rename(self._path, self._target)  # noqa: PTH104
        except FileNotFoundError:
            _make_folder_of(self._target)
            os.rename(self._path, self._target)  # noqa: PTH104

    def discard(self) -> None:
        """Leave nothing of it that is not a blob."""
        self._close()
        Path(self._path).unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor != -1:
            os.close(descriptor)


def copy_blob(root: str, key: str, target: str) -> None:
    """Have a blob under another key as well: as a link if that can be, as nobody writes into one.

    Raises:
        FileNotFoundError: there is no such blob.
    """
    source, place = f"{root}/{key}", f"{root}/{target}"
    _make_folder_of(place)
    try:
        os.link(source, place)
    except OSError:  # Something is there, or the file system knows no links.
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
    """Have the disk know the names of blobs: force every folder between them and `root`.

    Raises:
        OSError: a folder cannot be forced.
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
    """Where the folders end that stand above this one, and it itself."""
    return [0, *(at for at, letter in enumerate(folder) if letter == "/"), len(folder)]


@dataclass(eq=False)
class Small:
    """A small blob on its way."""

    key: str
    data: bytes
    durable: bool
    """Whether it must survive a power cut."""
    anywhere: bool = False
    """Whether it may be stored under another key, which is then in place of this one."""
    file: StagedFile | None = None
    error: Exception | None = None
    """Why it is not stored, once it could have been."""


def store_together(root: str, blobs: Sequence[Small]) -> None:
    """Store each of them, or note in it why not."""
    try:
        _store_together(root, blobs)
    except Exception as error:  # A bug must not leave anybody waiting for ever.
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
    """Note in each of them why nothing can be stored; False if something can."""
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
        """Args:
        stored: called in a thread with blobs that are stored, or have their error.
        """
        self._volume = volume
        self._stored = stored
        self._changed = threading.Condition()
        self._waiting: deque[Small] = deque()
        self._free = WRITERS
        self._threads: list[threading.Thread] = []

    def take(self, blobs: Collection[Small]) -> None:
        """Store these as soon as threads are free."""
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
        """Some of what waits, once there is something."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            share = min(AT_ONCE, -(-len(self._waiting) // self._free))
            self._free -= 1
            return [self._waiting.popleft() for _ in range(share)]


def force_blob(root: Path, key: str) -> None:
    """Force a blob, and the folders that name it, to the disk."""
    descriptor = os.open(root / key, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    force_folders(str(root), [key])

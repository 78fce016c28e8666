"""Packs: files that hold many small blobs, one after another.

To make a file, name it and force it to the disk costs several times what a small content does. What
may stand under any key is therefore a slice of a pack: a header and the content, with the key
`packs/{pack}/{offset}/{name}`. Only one thread writes a pack, at its end, and holds a lock on it
meanwhile; after an hour or `FULL` bytes it begins another. A slice that is deleted becomes a hole,
which takes no room, and a pack that is holes alone is removed.

Whoever reads a slice compares the header, so that a key finds its blob or nothing. Nothing here
knows of asyncio.
"""

import ctypes
import errno
import fcntl
import os
import re
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.blobs.files import Small, force_content, force_folders, pread_from_memory
from shared.writing import write_all

PACKS = "packs/"
"""Below this stand the packs."""

FULL = 256 << 20
"""Bytes of a pack after which another is begun."""

LASTS = timedelta(hours=1)
"""How long slices are added to a pack: what is stored later is in no pack that is older."""

UNTOUCHED = 2 * LASTS
"""Age from which on a pack of holes is removed: whoever was about to lock it has done so."""

PAGE = 4096
"""Bytes of which slices are multiples: file systems make holes of whole blocks only."""

HEADER = struct.Struct("!32sdIH")
"""What a slice begins with: its pack, when it was stored, how many bytes its content has, and its
name, which follows. Who sends a content cannot make it look like a slice: nobody is told of
packs."""

_NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{16}")
_KEY = re.compile(rf"{PACKS}({_NAME.pattern})/(\d+)/.+")
_TIME = "%Y%m%dT%H%M%S"

_PUNCH_HOLE = 0x02 | 0x01
"""Linux's FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE."""

_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
"""Linux has it; Python's own `posix_fallocate` makes no holes."""


@dataclass(frozen=True)
class Slice:
    """A blob in a pack."""

    pack: str
    offset: int
    """Byte at which its header begins."""
    name: str
    size: int
    """Bytes of its content."""
    at: datetime
    """When it was stored."""

    @property
    def key(self) -> str:
        return f"{PACKS}{self.pack}/{self.offset}/{self.name}"

    @property
    def begin(self) -> int:
        """Byte at which its content begins."""
        return self.offset + HEADER.size + len(self.name)

    @property
    def room(self) -> int:
        """Bytes that it takes in its pack."""
        return _rounded(HEADER.size + len(self.name) + self.size)


def _rounded(size: int) -> int:
    return -(-size // PAGE) * PAGE


def begun_at(pack: str) -> datetime:
    """When a pack was begun, which its name tells to the second."""
    return datetime.strptime(pack.partition("-")[0], _TIME).replace(tzinfo=UTC)


class Packs:
    """Reads the packs of a directory, and makes holes in them.

    Methods that take a key raise `FileNotFoundError` if it finds nothing, and all of them `OSError`
    when the directory fails.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / PACKS

    def read(self, key: str, length: int | None = None, *, start: int = 0) -> bytes:
        """The content of a slice from byte `start` on, or `length` bytes of it."""
        with self._slice(key, os.O_RDONLY) as (pack, found):
            rest = max(0, found.size - start)
            size = rest if length is None else min(length, rest)
            content = _read_at(pack, size, found.begin + start)
        if len(content) < size:
            raise FileNotFoundError(errno.ENOENT, "the pack ends within the slice", key)
        return content

    def find(self, key: str) -> Slice:
        """A slice, by its key."""
        with self._slice(key, os.O_RDONLY) as (_, found):
            return found

    def read_from_memory(self, key: str) -> bytearray | None:
        """The content of a slice, or None if that would wait for the disk."""
        with self._slice(key, os.O_RDONLY) as (pack, found):
            return pread_from_memory(pack, found.size, found.begin)

    def size(self, key: str) -> int:
        """Bytes of a slice's content."""
        with self._slice(key, os.O_RDONLY) as (_, found):
            return found.size

    def delete(self, key: str) -> None:
        """Make a hole of a slice."""
        with self._slice(key, os.O_RDWR) as (pack, found):
            _punch(pack, found.offset, found.room)

    def slices(self) -> Iterator[Slice]:
        """All slices."""
        yield from self._slices_of(self._names())

    def stored_between(self, begin: datetime, end: datetime) -> Iterator[Slice]:
        """The slices that were stored then, and others that stand beside them."""
        yield from self._slices_of(
            pack for pack in self._names() if begin - UNTOUCHED < begun_at(pack) <= end
        )

    def remove_empty(self, now: datetime) -> int:
        """Remove the packs that are only holes, and that nobody adds to; returns how many."""
        old = [pack for pack in self._names() if begun_at(pack) < now - UNTOUCHED]
        return sum(map(self._remove_if_empty, old))

    def _names(self) -> list[str]:
        try:
            return sorted(
                path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name)
            )
        except FileNotFoundError:
            return []

    @contextmanager
    def _slice(self, key: str, mode: int) -> Iterator[tuple[int, Slice]]:
        """The pack of a slice, open, and what its header says."""
        told = _KEY.fullmatch(key)
        if told is None:
            raise FileNotFoundError(errno.ENOENT, "this is no slice's key", key)
        name, offset = told[1], int(told[2])
        pack = os.open(self._folder / name, mode)
        try:
            found = _slice_at(pack, name, offset)
            if found is None or found.key != key:
                raise FileNotFoundError(errno.ENOENT, "no such slice", key)
            yield pack, found
        finally:
            os.close(pack)

    def _slices_of(self, packs: Iterable[str]) -> Iterator[Slice]:
        for pack in packs:
            with suppress(FileNotFoundError):  # It was removed meanwhile.
                yield from self._slices_in(pack)

    def _slices_in(self, name: str) -> Iterator[Slice]:
        pack = os.open(self._folder / name, os.O_RDONLY)
        try:
            offset, end = 0, os.fstat(pack).st_size
            while offset < end:
                found = _slice_at(pack, name, offset)
                if found is not None:
                    yield found
                # Of what is a hole, or was not written to its end, nobody knows how long it is.
                offset += PAGE if found is None else found.room
        finally:
            os.close(pack)

    def _remove_if_empty(self, name: str) -> bool:
        path = self._folder / name
        pack = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(pack, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.lseek(pack, 0, os.SEEK_DATA)
        except BlockingIOError:
            return False  # Somebody adds to it.
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            path.unlink(missing_ok=True)  # It has no data at all.
            return True
        finally:
            os.close(pack)
        return False


def _read_at(pack: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, fewer only if the pack ends before: one read may return less."""
    content = os.pread(pack, size, offset)
    while len(content) < size and (
        more := os.pread(pack, size - len(content), offset + len(content))
    ):
        content += more
    return content


def _slice_at(pack: int, name: str, offset: int) -> Slice | None:
    header = os.pread(pack, PAGE, offset)
    if len(header) < HEADER.size:
        return None
    whose, at, size, name_size = HEADER.unpack_from(header)
    if whose != name.encode():
        return None
    blob = header[HEADER.size : HEADER.size + name_size].decode()
    return Slice(name, offset, blob, size, datetime.fromtimestamp(at, UTC))


def _punch(pack: int, offset: int, length: int) -> None:
    """Make a hole.

    Raises:
        OSError: the file system knows no holes, or fails.
    """
    code = errno.EOPNOTSUPP
    if _fallocate is not None:
        failed = _fallocate(pack, _PUNCH_HOLE, ctypes.c_int64(offset), ctypes.c_int64(length))
        code = ctypes.get_errno() if failed else 0
    if code:
        raise OSError(code, os.strerror(code))


class PackWriter:
    """Writes small blobs to a pack of its own; for one thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pack: int | None = None
        self._name = ""
        self._end = 0
        self._until = 0.0
        self._knows_holes = True

    def take(self, blobs: Sequence[Small]) -> Sequence[Small]:
        """Store those that may stand anywhere, or note in each why not; returns the others."""
        loose = [blob for blob in blobs if blob.anywhere]
        if not loose:
            return blobs
        try:
            if not self._prepare():
                return blobs
            self._append(loose)
        except OSError as error:
            self._abandon()
            for blob in loose:
                blob.error = error
        return [blob for blob in blobs if not blob.anywhere]

    def close(self) -> None:
        """Begin another pack next time; what is in this one stays."""
        if self._pack is not None:
            os.close(self._pack)
            self._pack = None

    def _prepare(self) -> bool:
        """Have a pack that can be added to; False if this file system is none for packs."""
        if self._pack is not None:
            is_there = os.fstat(self._pack).st_nlink > 0  # Nobody but us should have removed it.
            if is_there and self._end < FULL and time.time() < self._until:
                return True
            self.close()
        if self._knows_holes:
            self._begin()
        return self._knows_holes

    def _begin(self) -> None:
        name = f"{datetime.now(UTC).strftime(_TIME)}-{secrets.token_hex(8)}"
        path = self.root / PACKS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pack = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._name, self._end = name, 0
        self._until = time.time() + LASTS.total_seconds()
        fcntl.flock(self._pack, fcntl.LOCK_EX)
        try:
            _punch(self._pack, 0, PAGE)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._knows_holes = False
            self._abandon()
        else:
            force_folders(str(self.root), [PACKS + name])

    def _append(self, blobs: Sequence[Small]) -> None:
        assert self._pack is not None  # noqa: S101 - `_prepare` has opened it
        at, offset = time.time(), self._end
        pieces: list[bytes] = []
        for blob in blobs:
            name = blob.key.rpartition("/")[2].encode()
            header = HEADER.pack(self._name.encode(), at, len(blob.data), len(name)) + name
            blob.key = f"{PACKS}{self._name}/{offset}/{name.decode()}"
            size = len(header) + len(blob.data)
            pieces += (header, blob.data, bytes(_rounded(size) - size))
            offset += _rounded(size)
        write_all(self._pack, *pieces)
        if any(blob.durable for blob in blobs):
            force_content(self._pack)
        self._end = offset

    def _abandon(self) -> None:
        """Leave nothing of what could not be stored, nor add to this pack again: an error of the
        disk is told only once."""
        if self._pack is None:
            return
        with suppress(OSError):
            os.ftruncate(self._pack, self._end)
            if self._end == 0:
                (self.root / PACKS / self._name).unlink(missing_ok=True)
        self.close()

"""Temporary directories of attempts; what a killed pod left behind is removed by the next one."""

import asyncio
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "waybill-pod-"
LOCK = "lock"


class Scratch:
    """This pod's own directory, locked for as long as the pod lives."""

    def __init__(self, parent: str | None) -> None:
        root = Path(parent or tempfile.gettempdir())
        root.mkdir(parents=True, exist_ok=True)
        with _one_pod_at_a_time(root):  # Or one would sweep away what another has not locked yet.
            _sweep(root)
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
            self.folder.chmod(0o711)  # Workers of other users pass through to their own folders.
            self._lock = (self.folder / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._numbers = count(1)

    def attempt(self) -> str:
        """A directory for one attempt, which is not there before somebody makes it.

        Most files need none, and making and removing one takes longer than a small file's work.
        """
        return f"{self.folder}/{next(self._numbers)}"

    async def discard(self, folder: str) -> None:
        """Remove the directory of an attempt that is over."""
        # A path of pathlib takes as long as the look.
        if os.path.exists(folder):  # noqa: ASYNC240, PTH110
            await asyncio.to_thread(remove_tree, folder)

    def subfolder(self, name: str) -> Path:
        """A directory of this name, which goes with the rest."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o711)
        return folder

    def remove(self) -> None:
        """Remove everything; the pod ends."""
        remove_tree(self.folder)
        self._lock.close()


def remove_tree(folder: str | Path) -> None:
    """Remove a directory with all that is in it, as far as that is possible.

    Whoever took over a worker may have made directories deeper than Python's own function goes, or
    may still be making some.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        command = ["rm", "-rf", "--", os.fspath(folder)]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # noqa: S603
    if os.path.lexists(folder):
        log.warning("%s cannot be removed altogether", folder)


@contextmanager
def _one_pod_at_a_time(root: Path) -> Iterator[None]:
    """Holds a lock on the directory itself, which needs no file of its own."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Remove the directories of pods that are gone: nobody holds their locks."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue  # Everybody may make a directory of this name in `/tmp`.
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue  # It has just been removed, or is no directory of a pod.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
        except BlockingIOError:
            continue  # Held by a living pod.
        finally:
            os.close(lock)

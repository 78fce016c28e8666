"""Temporary directories of attempts. A new pod removes those of pods that were killed."""

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
    """This pod's temporary directory, locked for the lifetime of the pod."""

    def __init__(self, parent: str | None) -> None:
        root = Path(parent or tempfile.gettempdir())
        root.mkdir(parents=True, exist_ok=True)
        with _one_pod_at_a_time(root):  # Otherwise a pod could sweep a directory not locked yet.
            _sweep(root)
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
            self.folder.chmod(0o711)  # Workers run as other users and must reach their folders.
            self._lock = (self.folder / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._numbers = count(1)

    def attempt(self) -> str:
        """Return the path of a directory for one attempt, without creating it.

        Most files need none, and creating and removing one takes longer than processing a small
        file.
        """
        return f"{self.folder}/{next(self._numbers)}"

    async def discard(self, folder: str) -> None:
        """Remove the directory of a finished attempt."""
        # Creating a `Path` takes as long as the check itself.
        if os.path.exists(folder):  # noqa: ASYNC240, PTH110
            await asyncio.to_thread(remove_tree, folder)

    def subfolder(self, name: str) -> Path:
        """Create a subdirectory, which is removed with the pod's directory."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o711)
        return folder

    def remove(self) -> None:
        """Remove the pod's directory when the pod stops."""
        remove_tree(self.folder)
        self._lock.close()


def remove_tree(folder: str | Path) -> None:
    """Remove a directory tree as far as possible.

    A compromised worker may have nested directories deeper than `shutil.rmtree` can recurse, or may
    still be creating some.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        command = ["rm", "-rf", "--", os.fspath(folder)]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)  # noqa: S603
    if os.path.lexists(folder):
        log.warning("cannot remove all of %s", folder)


@contextmanager
def _one_pod_at_a_time(root: Path) -> Iterator[None]:
    """Hold a lock on the directory itself, which needs no lock file."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(root: Path) -> None:
    """Remove the directories of pods that no longer hold their locks."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue  # In `/tmp`, any user may create a directory with this name.
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue  # It has just been removed, or is not a pod's directory.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
        except BlockingIOError:
            continue  # Its pod is alive.
        finally:
            os.close(lock)

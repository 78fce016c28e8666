"""Clean up after a job, so that the next job in the same process starts fresh."""

import logging
import os
import stat
from pathlib import Path

from services.processor.scratch import remove_tree

log = logging.getLogger(__name__)


def remove_leftovers(folder: Path, *, kept: str) -> bool:
    """Remove everything from a folder except one regular file.

    Returns:
        False if anything could not be removed.
    """
    try:
        return _remove_leftovers(folder, kept=kept)
    except OSError as error:  # A step changed the folder's mode, or a thread still writes to it.
        log.warning("cannot remove the temporary files of a job: %s", error)
        return False


def _remove_leftovers(folder: Path, *, kept: str) -> bool:
    if os.listdir(folder) == [kept] and _is_plain(f"{folder}/{kept}"):  # noqa: PTH208
        return True  # The usual case.
    clean = True
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == kept and _is_plain(entry.path):
                continue
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
                clean &= not os.path.lexists(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108
    return clean


def _is_plain(path: str) -> bool:
    found = os.lstat(path)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def has_children() -> bool:
    """Reap ended children, and return True if others are still running."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True

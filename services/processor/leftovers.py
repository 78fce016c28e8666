"""What a job leaves behind in its process, and must not be there for the next one."""

import logging
import os
import stat
from pathlib import Path

from services.processor.scratch import remove_tree

log = logging.getLogger(__name__)


def remove_leftovers(folder: Path, *, kept: str) -> bool:
    """Remove everything from a folder but one regular file.

    Returns:
        False if something could not be removed.
    """
    try:
        return _remove_leftovers(folder, kept=kept)
    except (
        OSError
    ) as error:  # A step changed the mode of the folder, or a thread still works in it.
        log.warning("the temporary files of a job cannot be removed: %s", error)
        return False


def _remove_leftovers(folder: Path, *, kept: str) -> bool:
    if os.listdir(folder) == [kept] and _is_plain(f"{folder}/{kept}"):  # noqa: PTH208
        return True  # As after most jobs.
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
    """Return whether this process still has children, after burying those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True

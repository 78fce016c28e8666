"""The user that a worker runs as: not the pod's user, and never root."""

import itertools
import os
import secrets
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from services.processor.isolation.kernel import IS_LINUX, libc

FIRST_USER, USERS = 62000, 1000
"""Range of user ids for workers, unused by packages and people. Each process gets the next id, so
that leftover processes of an earlier worker cannot affect it."""

_CAPABILITIES_VERSION_3 = 0x20080522

_CHOWN, _DAC_OVERRIDE, _FOWNER, _KILL, _SETGID, _SETUID = 0, 1, 3, 5, 6, 7

NEEDED = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _KILL, _SETGID, _SETUID)
"""Capabilities that a pod needs to run workers as other users: to switch to them, to give them a
folder, to take their results and to kill them. Docker grants all of them to root."""

_numbers = itertools.count(secrets.randbelow(USERS))


def has_capabilities() -> bool:
    """Return True if this process can run workers as other users."""
    if not IS_LINUX:
        return False
    held = _effective_capabilities()
    return all(held >> each & 1 for each in NEEDED) and _is_mapped(FIRST_USER + USERS - 1)


def next_user() -> int:
    """Return the user id for the next worker."""
    return FIRST_USER + next(_numbers) % USERS


def can_be_read_by_others(paths: Iterable[str], *, with_parents: bool) -> bool:
    """Return True if a user without special rights can read these files or directories.

    Args:
        with_parents: also check that it can traverse all parent directories.
    """
    return all(_can_be_read(Path(path).resolve(), with_parents=with_parents) for path in paths)


def _can_be_read(path: Path, *, with_parents: bool) -> bool:
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    if path.stat().st_mode & wanted != wanted:
        return False
    return not with_parents or all(each.stat().st_mode & stat.S_IXOTH for each in path.parents)


def become(user: int) -> None:
    """Switch to this user and its group, without any capability.

    Raises:
        OSError: this process lacks the permission.
    """
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    drop_capabilities()


def drop_capabilities() -> None:
    """Drop all capabilities."""
    if sys.platform == "linux":
        header = _CAPABILITIES_VERSION_3.to_bytes(4, sys.byteorder) + bytes(4)
        libc().capset(header, bytes(24))


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _is_mapped(user: int) -> bool:
    """Return True if the user exists in this user namespace."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, length = map(int, line.split())
        if first <= user < first + length:
            return True
    return False

"""Calls of the Linux kernel that Python does not wrap."""

import ctypes
import os
import platform
import sys

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

IS_LINUX = sys.platform == "linux"
MACHINE = platform.machine()


def libc() -> ctypes.CDLL:
    """Return the C library, which keeps `errno` for us."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return the result of a call.

    Raises:
        OSError: the call failed; `what` names it.
    """
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process.

    Raises:
        OSError: the kernel refuses.
    """
    check(libc().prctl(option, value, 0, 0, 0), "prctl")


def set_dumpable(*, dumpable: bool) -> None:
    """Choose whether processes of the same user may read this one's memory and environment.

    A process that is not dumpable also leaves no core dump, and its files in `/proc` belong to
    root. `execve` makes a process dumpable again; `fork` keeps the choice.
    """
    if IS_LINUX:
        prctl(PR_SET_DUMPABLE, int(dumpable))

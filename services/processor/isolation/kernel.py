"""Linux system calls that Python does not wrap."""

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
    """Return the C library, with `errno` preserved after calls."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return the result of a call, or raise its error.

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
        OSError: the kernel rejects it.
    """
    check(libc().prctl(option, value, 0, 0, 0), "prctl")


def set_dumpable(*, dumpable: bool) -> None:
    """Set whether processes of the same user may read this one's memory and environment.

    A non-dumpable process also writes no core dump, and root owns its files in `/proc`. `execve`
    makes a process dumpable again; `fork` keeps the setting.
    """
    if IS_LINUX:
        prctl(PR_SET_DUMPABLE, int(dumpable))

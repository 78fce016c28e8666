"""What one worker process may use, and what it inherits."""

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.processor.isolation.identity import drop_capabilities
from services.processor.isolation.kernel import (
    IS_LINUX,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    libc,
)

MAX_DESCRIPTOR = (1 << 31) - 1

MAX_DESCRIPTORS = 512
"""Open files of one worker: libraries of documents need a few dozen."""

MAX_PROCESSES = 128
"""Processes and threads of a worker: native libraries start a thread or two for each core, a
command line tool a few processes. The kernel counts them by user, and not those of root."""

KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"}
)
"""Environment variables that a worker keeps, beside `LC_*`; others may hold secrets."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one worker process may use."""

    memory: int
    """bytes of private memory; what exceeds it ends in MemoryError"""
    file: int = 4 << 30
    """bytes of one temporary file"""
    files: int = 1000
    """files after which the process is replaced"""
    growth: int = 1 << 30
    """bytes of memory after a file at which the process is replaced"""
    network: bool = False


def die_with_parent() -> None:
    """Have the kernel end this process when its parent is gone, however it went."""
    if sys.platform == "linux":
        kill_with_parent()
        if os.getppid() == 1:
            sys.exit(0)


def kill_with_parent() -> None:
    """Have the kernel send SIGKILL when the parent ends; a change of the user undoes it."""
    if IS_LINUX:
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def clean_environment(folder: Path) -> None:
    """Forget every variable that may hold a secret; temporary files go to `folder`."""
    secrets = list(_strings_of_others()) if sys.platform == "linux" else []
    for name in [name for name in os.environ if not _is_kept(name)]:
        del os.environ[name]
    for address, length in secrets:
        # `/proc/self/environ` would show them as they were at the start of the fork server.
        ctypes.memset(address, 0, length)
    os.environ["TMPDIR"] = os.environ["HOME"] = str(folder)
    os.chdir(folder)


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith("LC_")


def _strings_of_others() -> Iterator[tuple[int, int]]:
    """Address and length of each variable, as C has it, that is not to be kept."""
    strings = ctypes.POINTER(ctypes.c_void_p).in_dll(libc(), "environ")
    for number in itertools.count():
        address = strings[number]
        if address is None:
            return
        text = ctypes.string_at(address)
        if not _is_kept(text.partition(b"=")[0].decode(errors="replace")):
            yield address, len(text)


def keep_only(*kept: socket.socket) -> list[socket.socket]:
    """Close all that was inherited but the standard descriptors and these sockets to the pod."""
    descriptors = [each.detach() for each in kept]
    last = 2
    for descriptor in sorted(descriptors):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, MAX_DESCRIPTOR)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def drop_privileges(limits: Limits, *, processes: int | None) -> None:
    """Give up privileges and take on the limits, for good.

    Args:
        processes: how many the user may have; None for any number.
    """
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most)
    if processes is not None:
        _limit(resource.RLIMIT_NPROC, processes)
    if IS_LINUX:
        libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # A namespace gives its first process every capability inside.
        drop_capabilities()


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def processes_of_user() -> int:
    """Return how many processes and threads this user has now, as the kernel counts them."""
    user, count = f"Uid:\t{os.getuid()}\t", 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # It has ended meanwhile.
                status = Path(f"/proc/{entry.name}/status").read_text(errors="replace")
                if user in status:
                    count += int(status.partition("Threads:")[2].split(None, 1)[0])
    return count

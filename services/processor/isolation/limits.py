"""Resource limits and inheritance of a worker process."""

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
"""Open files of one worker; document libraries need a few dozen."""

MAX_PROCESSES = 128
"""Processes and threads of a worker. Native libraries start one or two threads per core, command
line tools a few processes. The kernel counts them per user and does not limit root."""

KEPT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"}
)
"""Environment variables that a worker keeps, in addition to `LC_*`; others may hold secrets."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Resource limits of one worker process."""

    memory: int
    """Bytes of private memory; allocating more raises MemoryError."""
    file: int = 4 << 30
    """Bytes of one temporary file."""
    files: int = 1000
    """Files after which the process is replaced."""
    growth: int = 1 << 30
    """Bytes of memory after a file above which the process is replaced."""
    network: bool = False


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends for any reason."""
    if sys.platform == "linux":
        kill_with_parent()
        if os.getppid() == 1:
            sys.exit(0)


def kill_with_parent() -> None:
    """Have the kernel send SIGKILL when the parent ends; changing the user resets this."""
    if IS_LINUX:
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def clean_environment(folder: Path) -> None:
    """Remove variables that may hold secrets, and direct temporary files to `folder`."""
    secrets = list(_strings_of_others()) if sys.platform == "linux" else []
    for name in [name for name in os.environ if not _is_kept(name)]:
        del os.environ[name]
    for address, length in secrets:
        # Otherwise `/proc/self/environ` would still show the fork server's original values.
        ctypes.memset(address, 0, length)
    os.environ["TMPDIR"] = os.environ["HOME"] = str(folder)
    os.chdir(folder)


def _is_kept(name: str) -> bool:
    return name in KEPT or name.startswith("LC_")


def _strings_of_others() -> Iterator[tuple[int, int]]:
    """Yield the address and length of each C variable that is not kept."""
    strings = ctypes.POINTER(ctypes.c_void_p).in_dll(libc(), "environ")
    for number in itertools.count():
        address = strings[number]
        if address is None:
            return
        text = ctypes.string_at(address)
        if not _is_kept(text.partition(b"=")[0].decode(errors="replace")):
            yield address, len(text)


def keep_only(*kept: socket.socket) -> list[socket.socket]:
    """Close all inherited descriptors except the standard ones and these sockets to the pod."""
    descriptors = [each.detach() for each in kept]
    last = 2
    for descriptor in sorted(descriptors):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, MAX_DESCRIPTOR)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def drop_privileges(limits: Limits, *, processes: int | None) -> None:
    """Drop privileges and apply the limits permanently.

    Args:
        processes: limit for all processes of the user; None for no limit.
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
        # The first process of a namespace has every capability inside it.
        drop_capabilities()


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def processes_of_user() -> int:
    """Return the number of the user's processes and threads, as the kernel counts them."""
    user, count = f"Uid:\t{os.getuid()}\t", 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # The process has just ended.
                status = Path(f"/proc/{entry.name}/status").read_text(errors="replace")
                if user in status:
                    count += int(status.partition("Threads:")[2].split(None, 1)[0])
    return count

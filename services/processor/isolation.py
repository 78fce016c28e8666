"""What a worker process is kept from: the network, other processes, the pod's secrets and sockets.

Namespaces need no privilege where the kernel allows it (user_namespaces(7)); a container's seccomp
profile may forbid them, and then the worker goes without. The rest holds everywhere.

The processes of one worker, where namespaces are allowed:

    keeper    child of the fork server, outside; waits, and dies as the work died
    └── init  process 1 of the namespace: when it ends, the kernel kills all that is left inside
        └── the worker, a process like any other: process 1 would be deaf to its own signals
"""

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shared.writing import write_all, write_file

CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

_MAX_DESCRIPTOR = (1 << 31) - 1

_CAPABILITIES_VERSION_3 = 0x20080522

MAX_DESCRIPTORS = 512
"""Open files of one worker: libraries of documents need a few dozen."""

MAX_PROCESSES = 128
"""Processes and threads in a worker's namespace: native libraries start a thread or two for each
core, a command line tool a few processes. The kernel does not count those of the user root."""

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
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(0)


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
    strings = ctypes.POINTER(ctypes.c_void_p).in_dll(_libc(), "environ")
    for number in itertools.count():
        address = strings[number]
        if address is None:
            return
        text = ctypes.string_at(address)
        if not _is_kept(text.partition(b"=")[0].decode(errors="replace")):
            yield address, len(text)


def enter_namespaces(*, network: bool) -> bool:
    """Go on in namespaces of our own; returns in a new process, the old ones wait for it.

    Returns:
        Whether the kernel allows it; else this is still the same process.
    """
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC | (0 if network else CLONE_NEWNET)
    if _libc().unshare(flags) != 0:
        return False
    write_file("/proc/self/setgroups", "deny")
    write_file("/proc/self/uid_map", f"{user} {user} 1")
    write_file("/proc/self/gid_map", f"{group} {group} 1")
    told, tell = os.pipe()
    init = os.fork()
    if init != 0:
        _keep(init, told)
    # The kernel lets this signal through even to process 1, as it comes from outside.
    _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    worker = os.fork()
    if worker != 0:
        _reap(worker, tell)
    os.close(tell)
    os.close(told)
    return True


def _keep(init: int, told: int) -> NoReturn:
    """The keeper: wait for the end, and end the same way, so that the pod sees it.

    SIGTERM has it end all: if it were killed itself, nobody would bury its child where the pod is
    the first process of a container.
    """

    def end_all(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # It may have ended just now.
            os.kill(init, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_all)
    _let_go(told)
    _, status = os.waitpid(init, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if text := os.read(told, 4):
        (status,) = struct.unpack("i", text)
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _reap(worker: int, tell: int) -> NoReturn:
    """Process 1: bury the orphans, until the worker ends; then all others in here are killed."""
    _let_go(tell)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == worker:
            write_all(tell, struct.pack("i", status))
            os._exit(0)


def _let_go(kept: int) -> None:
    """Close every descriptor but one: the pod is to see the end of the worker, not of this."""
    os.closerange(0, kept)
    os.closerange(kept + 1, _MAX_DESCRIPTOR)


def keep_only(*kept: socket.socket) -> list[socket.socket]:
    """Close all that was inherited but the standard descriptors and these sockets to the pod."""
    descriptors = [each.detach() for each in kept]
    last = 2
    for descriptor in sorted(descriptors):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, _MAX_DESCRIPTOR)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def renounce(limits: Limits, *, in_namespace: bool) -> None:
    """Give up privileges and take on the limits, for good."""
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, MAX_DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most)
    if in_namespace:
        # Elsewhere it would count all processes of this user, also those of other pods.
        _limit(resource.RLIMIT_NPROC, MAX_PROCESSES)
    if sys.platform == "linux":
        _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # A namespace gives its first process every capability inside.
        header = struct.pack("Ii", _CAPABILITIES_VERSION_3, 0)
        _libc().capset(header, bytes(24))


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def end_others() -> None:
    """Kill all other processes in the namespace; only ever to be called inside one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

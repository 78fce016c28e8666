"""A system call filter for workers (seccomp(2)): calls that no step needs fail with an error.

The filter is a table of denied calls; all others stay allowed. Landlock controls which files may be
opened.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from services.processor.isolation.kernel import (
    IS_LINUX,
    MACHINE,
    PR_SET_NO_NEW_PRIVS,
    check,
    libc,
    prctl,
)
from services.processor.isolation.syscalls import ARCHITECTURES, NUMBERS

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of classic BPF: load a word, three conditional jumps, return."""

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Byte offsets in `struct seccomp_data`."""

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000

_X32 = 0x40000000
"""Bit of x32 system calls, which the table would not match."""

_NEW_NAMESPACES = 0x7E020000
"""Flags of `clone` that create namespaces."""

_AF_INET, _AF_INET6, _AF_NETLINK = 2, 10, 16

ALWAYS = (
    # Other processes.
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "kcmp"),
    *("process_madvise", "process_mrelease", "move_pages", "migrate_pages", "perf_event_open"),
    *("get_robust_list", "pidfd_send_signal"),
    # Kernel secrets and administration.
    *("keyctl", "add_key", "request_key", "bpf", "userfaultfd", "syslog", "acct", "quotactl"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
    *("swapon", "swapoff", "personality", "lookup_dcookie", "fanotify_init", "vhangup"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname"),
    *("setdomainname", "iopl", "ioperm", "modify_ldt", "uselib", "nfsservctl"),
    # File systems and namespaces.
    *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "mount_setattr"),
    *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("open_by_handle_at", "name_to_handle_at"),
    # Message queues and shared memory accessible to other processes of the same user.
    *("shmget", "shmat", "semget", "msgget", "mq_open"),
)
"""Denied in every worker, with EPERM."""

UNKNOWN = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
"""Fail with ENOSYS, so that libraries fall back to the older call. A filter cannot inspect the
arguments of these calls."""

MODES = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr"),
    *("fremovexattr", "removexattrat", "utime", "utimes", "futimesat", "utimensat"),
    "file_setattr",
)
"""Change a file without opening it; Landlock does not restrict this."""

PRIORITIES = ("setpriority", "ioprio_set")
"""Could slow down all processes of the user."""

PROCESS_GROUPS = ("setsid", "setpgid")
"""Would let a process leave the group that the pod kills."""

TARGETED = (
    "prlimit64",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
)
"""Affect any process of the same user, given by the first argument."""

SIGNALS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
"""Signal any process of the same user, given by the first argument."""

_SIGNAL_OWNERS = {"fcntl": (8, 10, 15), "ioctl": (0x8901, 0x8902)}
"""Commands that make the kernel signal any process: F_SETOWN, F_SETSIG, F_SETOWN_EX, FIOSETOWN,
SIOCSPGRP."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The rules that one worker needs, depending on the other layers."""

    network: bool
    """True if internet sockets stay allowed."""
    has_own_processes: bool
    """True if a PID namespace hides all other processes."""
    shares_user: bool
    """True if the worker runs as the pod's user and sees the pod's files."""
    has_own_signals: bool
    """True if Landlock confines signals to the worker's processes."""
    may_truncate: bool
    """True if Landlock restricts `truncate`."""


def refused(wanted: Filter) -> list[str]:
    """Return the names of the system calls that are denied with any arguments."""
    names = list(ALWAYS)
    if not wanted.network:
        names += ["socket"]
    if not wanted.has_own_processes:
        names += PROCESS_GROUPS
    if wanted.shares_user:
        names += MODES
    if wanted.shares_user and not wanted.has_own_processes:
        names += PRIORITIES
        names += () if wanted.has_own_signals else ("tkill",)
    if not wanted.may_truncate:
        names += ["truncate"]
    return names


def install(wanted: Filter) -> None:
    """Filter the system calls of this process and its children permanently.

    Raises:
        OSError: the kernel does not support filters, or there is no table for this processor.
    """
    if not IS_LINUX or MACHINE not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no system call table for {MACHINE}")
    load(b"".join(_program(wanted)))


def load(program: bytes) -> None:
    """Install a classic BPF program as the system call filter of this process.

    Raises:
        OSError: the kernel does not support filters.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    check(libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header), 0, 0), "seccomp")


def _program(wanted: Filter) -> Iterable[bytes]:
    numbers = NUMBERS[MACHINE]
    yield from _unless(_load(_ARCHITECTURE), _EQUAL, ARCHITECTURES[MACHINE], then=errno.EPERM)
    yield _load(_NUMBER)
    if MACHINE == "x86_64":
        yield _jump(_AT_LEAST, _X32, yes=0, no=1)
        yield _return(_REFUSE | errno.EPERM)
    for names, error in ((refused(wanted), errno.EPERM), (UNKNOWN, errno.ENOSYS)):
        for name in names:
            if (number := numbers.get(name)) is not None:
                yield _jump(_EQUAL, number, yes=0, no=1)
                yield _return(_REFUSE | error)
    # `clone` is denied only with flags that create namespaces.
    yield from _when(numbers["clone"], 0, [_jump(_ANY_BIT, _NEW_NAMESPACES, yes=1, no=0)])
    if wanted.network:
        families = (_AF_INET, _AF_INET6, _AF_NETLINK)
        yield from _only(numbers["socket"], 0, families)
    if wanted.shares_user and not wanted.has_own_processes:
        for name in TARGETED + (() if wanted.has_own_signals else SIGNALS):
            yield from _only(numbers[name], 0, (0, os.getpid()))
        for name, commands in () if wanted.has_own_signals else _SIGNAL_OWNERS.items():
            yield from _never(numbers[name], 1, commands)
    yield _return(_ALLOW)


def _unless(load: bytes, test: int, value: int, *, then: int) -> Iterable[bytes]:
    yield load
    yield _jump(test, value, yes=1, no=0)
    yield _return(_REFUSE | then)


def _when(number: int, argument: int, tests: list[bytes]) -> Iterable[bytes]:
    """Deny a call if the last test jumps past the permission."""
    body = [_load(_ARGUMENTS + 8 * argument), *tests, _return(_ALLOW)]
    body.append(_return(_REFUSE | errno.EPERM))
    yield _jump(_EQUAL, number, yes=0, no=len(body))
    yield from body


def _only(number: int, argument: int, values: tuple[int, ...]) -> Iterable[bytes]:
    """Deny a call unless an argument has one of these values."""
    body = [_load(_ARGUMENTS + 8 * argument)]
    for value in values:
        body += [_jump(_EQUAL, value, yes=0, no=1), _return(_ALLOW)]
    body.append(_return(_REFUSE | errno.EPERM))
    yield _jump(_EQUAL, number, yes=0, no=len(body))
    yield from body


def _never(number: int, argument: int, values: tuple[int, ...]) -> Iterable[bytes]:
    """Deny a call if an argument has one of these values."""
    body = [_load(_ARGUMENTS + 8 * argument)]
    for value in values:
        body += [_jump(_EQUAL, value, yes=0, no=1), _return(_REFUSE | errno.EPERM)]
    body.append(_return(_ALLOW))
    yield _jump(_EQUAL, number, yes=0, no=len(body))
    yield from body


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, *, yes: int, no: int) -> bytes:
    return struct.pack("=HBBI", test, yes, no, value)


def _return(action: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, action)

"""Separate namespaces for a worker: processes, network, IPC, mounts and users (namespaces(7)).

The processes of one worker:

    keeper    child of the fork server, outside; waits, and dies in the same way as the worker
    └── init  process 1 of the namespace; when it ends, the kernel kills all processes inside
        └── the worker, a regular process: process 1 would ignore its own signals
"""

import contextlib
import os
import resource
import signal
import struct
import time
from collections.abc import Callable
from typing import NoReturn

from services.processor.isolation.identity import become
from services.processor.isolation.kernel import IS_LINUX, libc, set_dumpable
from services.processor.isolation.limits import MAX_DESCRIPTOR, kill_with_parent
from shared.writing import write_all, write_file

_NEWNS = 0x00020000
_NEWIPC = 0x08000000
_NEWUSER = 0x10000000
_NEWPID = 0x20000000
_NEWNET = 0x40000000


_END_GRACE, _END_PAUSE = 2.0, 0.001
"""Seconds for killed processes to exit, and seconds between two checks."""


def enter_namespaces(
    *, network: bool, user: int | None = None, prepare: Callable[[], object] = lambda: None
) -> bool:
    """Continue in new namespaces. Returns in a new process; the old ones wait for it.

    Root creates them before it switches to `user`, because it can mount paths that the user cannot
    reach. Other users need a user namespace for that.

    Args:
        network: stay in the pod's network namespace.
        user: the user to switch to; None to keep the current one.
        prepare: called in process 1, which may mount.

    Returns:
        True if the kernel allows it; otherwise nothing has changed.
    """
    if not IS_LINUX:
        return False
    flags = _NEWPID | _NEWIPC | _NEWNS | (0 if network else _NEWNET)
    if user is None:
        if not _make_user_namespace(flags):
            return False
    elif libc().unshare(flags) != 0:
        return False
    status_reader, status_writer = os.pipe()
    init = os.fork()
    if init != 0:
        _become(user)
        _keep(init, status_reader)
    # The kernel delivers this signal even to process 1, because it comes from outside.
    kill_with_parent()
    prepare()
    _become(user)
    worker = os.fork()
    if worker != 0:
        _reap(worker, status_writer)
    os.close(status_writer)
    os.close(status_reader)
    if user is not None:
        _make_user_namespace(0)
    return True


def _become(user: int | None) -> None:
    if user is not None:
        become(user)
        kill_with_parent()  # Changing the user has reset it.


def _make_user_namespace(others: int) -> bool:
    """Create a user namespace that keeps the user's id, and the `others`, and enter them."""
    user, group = os.getuid(), os.getgid()
    if libc().unshare(_NEWUSER | others) != 0:
        return False
    set_dumpable(dumpable=True)  # Otherwise root would own its files in `/proc`.
    write_file("/proc/self/setgroups", "deny")
    write_file("/proc/self/uid_map", f"{user} {user} 1")
    write_file("/proc/self/gid_map", f"{group} {group} 1")
    set_dumpable(dumpable=False)
    return True


def can_make(*, with_user_namespace: bool) -> bool:
    """Return True if this process can create the namespaces, tested in a child process."""
    flags = _NEWPID | _NEWIPC | _NEWNS | _NEWNET | (_NEWUSER if with_user_namespace else 0)
    if not IS_LINUX:
        return False
    child = os.fork()
    if child == 0:
        os._exit(0 if libc().unshare(flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _keep(init: int, status_reader: int) -> NoReturn:
    """Run the keeper: wait for the worker's end and end in the same way, for the pod to see.

    SIGTERM makes it kill everything inside. If the keeper itself were killed, nobody would reap its
    child where the pod is process 1 of a container. It then dies by SIGTERM, since the worker did
    not end by itself.
    """
    was_asked = False

    def end_all(*_: object) -> None:
        nonlocal was_asked
        was_asked = True
        with contextlib.suppress(ProcessLookupError):  # It may just have ended.
            os.kill(init, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_all)
    _close_all_but(status_reader)
    _, status = os.waitpid(init, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if text := os.read(status_reader, 4):
        (status,) = struct.unpack("i", text)
    elif was_asked:
        status = signal.SIGTERM
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        died_by = os.WTERMSIG(status)
        if died_by != signal.SIGKILL:
            signal.signal(died_by, signal.SIG_DFL)  # Python handles or ignores some signals.
        os.kill(os.getpid(), died_by)
    os._exit(os.waitstatus_to_exitcode(status))


def _reap(worker: int, status_writer: int) -> NoReturn:
    """Run process 1: reap orphans until the worker ends; the kernel then kills all others."""
    _close_all_but(status_writer)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == worker:
            write_all(status_writer, struct.pack("i", status))
            os._exit(0)


def _close_all_but(kept: int) -> None:
    """Close all descriptors but one, so that the pod sees the worker's end on its sockets."""
    os.closerange(0, kept)
    os.closerange(kept + 1, MAX_DESCRIPTOR)


def end_others() -> bool:
    """Kill all other processes in the PID namespace. Call it only inside one.

    Returns:
        True if all of them have exited.
    """
    deadline = time.monotonic() + _END_GRACE
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return True  # No other process exists, the usual case.
        except PermissionError:
            return False
        time.sleep(_END_PAUSE)
    return False

"""Namespaces of a worker's own: processes, network, IPC, mounts and users (namespaces(7)).

The processes of one worker:

    keeper    child of the fork server, outside; waits, and dies as the work died
    └── init  process 1 of the namespace: when it ends, the kernel kills all that is left inside
        └── the worker, a process like any other: process 1 would be deaf to its own signals
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
"""Seconds for killed processes to be gone, and between two looks."""


def enter_namespaces(
    *, network: bool, user: int | None = None, prepare: Callable[[], object] = lambda: None
) -> bool:
    """Go on in namespaces of our own; returns in a new process, the old ones wait for it.

    Root makes them before it becomes `user`, since it may mount what that user could not reach;
    everybody else needs a user namespace for that.

    Args:
        network: whether to stay in the network of the pod.
        user: whom to become; None to stay who we are.
        prepare: called in process 1, with the rights to mount.

    Returns:
        Whether the kernel allows it; else this is still the same process, and the same user.
    """
    if not IS_LINUX:
        return False
    flags = _NEWPID | _NEWIPC | _NEWNS | (0 if network else _NEWNET)
    if user is None:
        if not _make_user_namespace(flags):
            return False
    elif libc().unshare(flags) != 0:
        return False
    told, tell = os.pipe()
    init = os.fork()
    if init != 0:
        _become(user)
        _keep(init, told)
    # The kernel lets this signal through even to process 1, as it comes from outside.
    kill_with_parent()
    prepare()
    _become(user)
    worker = os.fork()
    if worker != 0:
        _reap(worker, tell)
    os.close(tell)
    os.close(told)
    if user is not None:
        _make_user_namespace(0)
    return True


def _become(user: int | None) -> None:
    if user is not None:
        become(user)
        kill_with_parent()  # The change of the user has undone it.


def _make_user_namespace(others: int) -> bool:
    """Enter a user namespace, in which this user keeps its number, and `others` with it."""
    user, group = os.getuid(), os.getgid()
    if libc().unshare(_NEWUSER | others) != 0:
        return False
    set_dumpable(dumpable=True)  # Or its files in `/proc` would belong to root.
    write_file("/proc/self/setgroups", "deny")
    write_file("/proc/self/uid_map", f"{user} {user} 1")
    write_file("/proc/self/gid_map", f"{group} {group} 1")
    set_dumpable(dumpable=False)
    return True


def can_make(*, with_user_namespace: bool) -> bool:
    """Return whether this process may make the namespaces, by trying it in a child process."""
    flags = _NEWPID | _NEWIPC | _NEWNS | _NEWNET | (_NEWUSER if with_user_namespace else 0)
    if not IS_LINUX:
        return False
    child = os.fork()
    if child == 0:
        os._exit(0 if libc().unshare(flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _keep(init: int, told: int) -> NoReturn:
    """The keeper: wait for the end, and end the same way, so that the pod sees it.

    SIGTERM has it end all: if it were killed itself, nobody would bury its child where the pod is
    the first process of a container. It then dies by SIGTERM too, as the work did not end itself.
    """
    is_asked = False

    def end_all(*_: object) -> None:
        nonlocal is_asked
        is_asked = True
        with contextlib.suppress(ProcessLookupError):  # It may have ended just now.
            os.kill(init, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_all)
    _let_go(told)
    _, status = os.waitpid(init, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if text := os.read(told, 4):
        (status,) = struct.unpack("i", text)
    elif is_asked:
        status = signal.SIGTERM
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        died_by = os.WTERMSIG(status)
        if died_by != signal.SIGKILL:
            signal.signal(died_by, signal.SIG_DFL)  # Python handles or ignores some signals.
        os.kill(os.getpid(), died_by)
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
    os.closerange(kept + 1, MAX_DESCRIPTOR)


def end_others() -> bool:
    """Kill all other processes in the PID namespace; only ever to be called inside one.

    Returns:
        Whether they are gone.
    """
    deadline = time.monotonic() + _END_GRACE
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return True  # There is none, as usual.
        except PermissionError:
            return False
        time.sleep(_END_PAUSE)
    return False

"""The bad ends that a demo file can ask for: what a step might do to its process, on purpose."""

import ctypes
import os
import signal
import socket
import stat
import sys
import time
from typing import Any, Literal, NoReturn, get_args

from services.processor.steps.document import Context, Document
from shared.writing import write_file

BadEnd = Literal[
    "crash",
    "disk",
    "exit",
    "garble",
    "hang",
    "interrupt",
    "memory",
    "odd",
    "oversize",
    "quit",
    "raise",
    "segfault",
    "shout",
    "swarm",
]

BAD_ENDS: tuple[BadEnd, ...] = get_args(BadEnd)

_CHUNK = 16 << 20
"""Bytes that the end `memory` takes at once: few steps to any limit, and little left beyond it."""

_HUGE = 32 << 20
"""Characters of the result that nobody can carry."""


_SWARM = 300
"""Processes of a swarm: more than any limit of ours, and no harm to a machine without one."""


class MuteError(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


def end_badly(how: BadEnd, document: Document, context: Context) -> None:
    """Do the harm that is asked for.

    Raises:
        BaseException: of the kind that is asked for.
    """
    match how:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "disk":
            write_file("/dev/full", b"\0")
        case "exit":
            sys.exit(3)
        case "garble":
            _garble()
        case "hang":
            _hang()
        case "interrupt":
            raise KeyboardInterrupt
        case "memory":
            _exhaust_memory()
        case "odd":
            odd: Any = object()
            document.statistics["odd"] = odd
        case "oversize":
            document.statistics["huge"] = "x" * _HUGE
        case "quit":
            os._exit(3)
        case "raise":
            raise MuteError
        case "segfault":
            ctypes.string_at(0)
        case "shout":
            _shout(context)
        case "swarm":
            _swarm()


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)


def _exhaust_memory() -> NoReturn:
    taken = []
    while True:
        # A pattern other than zeros makes the kernel back every page at once.
        taken.append(b"\x01" * _CHUNK)


def _garble() -> None:
    """Write nonsense into every socket there is."""
    for descriptor in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                socket.socket(fileno=os.dup(descriptor)).sendall(b"\xff" * 64)
        except OSError:
            continue


def _swarm() -> NoReturn:
    for _ in range(_SWARM):
        if os.fork() == 0:
            _hang()
    _hang()


def _shout(context: Context) -> NoReturn:
    while True:
        print("Lorem ipsum dolor sit amet. " * 100)  # noqa: T201 - that is the harm
        print(f"attempt {context.attempt}", file=sys.stderr)  # noqa: T201

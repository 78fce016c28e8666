"""The failures that a demo file can request: everything a faulty step might do to its process."""

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

DemoFailure = Literal[
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

DEMO_FAILURES: tuple[DemoFailure, ...] = get_args(DemoFailure)

_CHUNK = 16 << 20
"""Bytes that `memory` allocates at a time: few steps to any limit, with little left below it."""

_HUGE = 32 << 20
"""Characters of a result that exceeds every limit."""


_SWARM = 300
"""Processes that `swarm` starts: above Waybill's limits, harmless on a machine without one."""


class MuteError(Exception):
    """An error whose `__str__` fails."""

    def __str__(self) -> str:
        raise RuntimeError("mute")


def fail_as_requested(how: DemoFailure, document: Document, context: Context) -> None:
    """Fail in the requested way.

    Raises:
        BaseException: as requested.
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
    chunks = []
    while True:
        # Non-zero bytes force the kernel to allocate every page at once.
        chunks.append(b"\x01" * _CHUNK)


def _garble() -> None:
    """Write invalid data to every open socket."""
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
        print("Lorem ipsum dolor sit amet. " * 100)  # noqa: T201 - the requested failure
        print(f"attempt {context.attempt}", file=sys.stderr)  # noqa: T201

"""Start Waybill for tests: Kafka and MongoDB only, or the whole stack as a user starts it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waybill.addresses import stack_description
from waybill.local.parts import Parts, running_parts

START_TIMEOUT = 120.0


def eventually(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@contextmanager
def backing_parts(folder: Path) -> Iterator[Parts]:
    """Yield a Kafka and a MongoDB: those named by the environment, or new ones."""
    with running_parts(folder) as parts:
        yield parts


class RunningStack:
    """A complete stack, started by `waybill up` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder

    @classmethod
    def start(cls, folder: Path, *options: str, **environment: str) -> "RunningStack":
        """Start a stack on free ports and wait until it is ready."""
        command = [sys.executable, "-m", "waybill", "up", "--dir", str(folder)]
        with (folder / "up.log").open("w") as log:
            process = subprocess.Popen(
                [*command, "--port", "0", "--upload-port", "0", *options],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        stack = cls(process, folder)
        deadline = time.monotonic() + START_TIMEOUT
        while not stack.description:
            assert process.poll() is None, stack.output
            assert time.monotonic() < deadline, stack.output
            time.sleep(0.1)
        return stack

    @property
    def output(self) -> str:
        """Return the output of `waybill up`."""
        return (self.folder / "up.log").read_text()

    @property
    def description(self) -> dict[str, Any]:
        """Return the current content of `stack.json`."""
        return stack_description(self.folder)

    @property
    def status_url(self) -> str:
        return str(self.description["status_url"])

    @property
    def upload_url(self) -> str:
        return str(self.description["upload_url"])

    @property
    def mongodb(self) -> str:
        return str(self.description["mongodb"])

    @property
    def pids(self) -> dict[str, Any]:
        pids: dict[str, Any] = self.description["pids"]
        return pids

    def stop(self, *, number: signal.Signals = signal.SIGINT, seconds: float = 20.0) -> int:
        """Stop the stack like Ctrl-C, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

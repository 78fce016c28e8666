"""A child process in its own session, with its log in a file."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

LOG_TAIL = 20
"""Lines of the log to show if the process fails to start."""


class Child:
    """A child process. Its own children belong to its process group and end with it."""

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.environment = environment
        self._command = command
        self.started = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - we start no threads before
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """Send SIGTERM to the process."""
        if self.alive:
            self._process.terminate()

    def finish(self, deadline: float) -> None:
        """Wait for the process until `deadline` (monotonic seconds), then kill its group."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def again(self) -> "Child":
        """Start the same command again, after this process has ended."""
        return Child(self.name, self._command, environment=self.environment, log=self.log)

    def how_it_ended(self) -> str:
        """Describe the state of the process."""
        code = self._process.poll()
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def last_lines(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL:])


def _end_with_parent() -> None:
    """Let the kernel terminate this process if the stack's process dies."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

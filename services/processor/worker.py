"""The worker process: takes one job after another from its socket and works on it alone.

A job can do no harm beyond its process: it may run out of memory, hang or die, and the pod at the
other end of the socket sees it as the end of this attempt.
"""

import contextlib
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from services.processor.channel import (
    Advanced,
    Broken,
    Done,
    Frames,
    Job,
    ProducedArtifact,
    encode,
)
from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline
from shared.errors import WorkError
from shared.events import Failure, Progress

log = logging.getLogger(__name__)

PROGRESS_INTERVAL = 0.25
"""Seconds between two reports of one phase: four a second look live and cost little."""

MAX_INLINE = 256 << 10
"""Bytes of artifacts that go over the socket; more goes through files of the scratch directory."""

READ_SIZE = 64 << 10

PR_SET_PDEATHSIG = 1


class WorkerContext:
    """What the steps of one job may use; the `Context` of the pipeline."""

    def __init__(self, job: Job, channel: socket.socket) -> None:
        self.run = job.run
        self.attempt = job.attempt
        self.ocr = job.ocr
        self.artifacts: list[ProducedArtifact] = []
        self.content = bytearray()
        self._folder = job.scratch
        self._channel = channel
        self._phase = ""
        self._last_report = 0.0

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, removed afterwards."""
        folder = self._folder / "work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def progress(self, phase: str, done: int, total: int, message: str | None = None) -> None:
        """Report the first, the last, and at most four a second of what is between."""
        now = time.monotonic()
        is_edge = phase != self._phase or done >= total
        if not is_edge and now - self._last_report < PROGRESS_INTERVAL:
            return
        self._phase, self._last_report = phase, now
        progress = Progress(done=done, total=total)
        self._channel.sendall(encode(Advanced(phase=phase, progress=progress, message=message)))

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        """Leave an artifact for the pod to store."""
        data = content.encode() if isinstance(content, str) else content
        path = None
        if len(self.content) + len(data) <= MAX_INLINE:
            self.content += data
        else:
            path = self._folder / "artifacts" / str(len(self.artifacts))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.artifacts.append(
            ProducedArtifact(name=name, content_type=content_type, size=len(data), path=path)
        )


def main(channel: socket.socket, memory_limit: int) -> None:
    """Work until the pod closes the socket.

    Args:
        memory_limit: bytes of private memory; what exceeds it ends in MemoryError.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel.setblocking(True)
    frames = Frames()
    with channel:
        while data := channel.recv(READ_SIZE):
            for frame in frames.feed(data):
                outcome = work(Job.model_validate_json(frame.document), channel)
                channel.sendall(encode(outcome))
                if isinstance(outcome, Broken) and outcome.tainted:
                    return


def work(job: Job, channel: socket.socket) -> Done | Broken:
    """Do one job; every exception becomes the outcome of the attempt."""
    context = WorkerContext(job, channel)
    document = Document(path=job.path, content_type=job.content_type, size=job.size)
    try:
        document = run_pipeline(document, context)
        return Done(
            statistics=document.statistics,
            artifacts=context.artifacts,
            content=bytes(context.content),
        )
    except WorkError as error:
        return _broken(error.error_code, error.detail, retryable=error.retryable)
    except MemoryError:
        gc.collect()
        failure = Failure(
            code="out_of_memory",
            message="The work needed more memory than one worker may use; "
            "WAYBILL_MEMORY_LIMIT sets the limit.",
            retryable=False,
        )
        return Broken(error=failure, tainted=True)
    except Exception as error:
        log.exception("a step raised %s", type(error).__name__)
        return _broken("step_failed", f"A step raised {_describe(error)}", retryable=True)


def _broken(code: str, message: str, *, retryable: bool) -> Broken:
    return Broken(error=Failure(code=code, message=message, retryable=retryable))


def _describe(error: Exception) -> str:
    """The error in one line, even if the error itself cannot say it."""
    with contextlib.suppress(Exception):
        return f"{type(error).__name__}: {error}"[:500]
    return type(error).__name__


def _die_with_parent() -> None:
    """Have the kernel end this process when the pod is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(0)

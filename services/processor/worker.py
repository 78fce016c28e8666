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
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline
from shared.errors import WorkError
from shared.events import Failure, Progress

log = logging.getLogger(__name__)

PROGRESS_INTERVAL = 0.25
"""Seconds between two reports of one phase: four a second look live and cost little."""

MAX_MESSAGE = 4 << 20
"""Bytes of one line on the socket; results are small, artifacts go through files."""

PR_SET_PDEATHSIG = 1


class Job(BaseModel):
    """One attempt at one file, as the pod hands it over."""

    path: Path
    scratch: Path
    content_type: str
    size: int
    run: int
    attempt: int
    ocr: bool


class ProducedArtifact(BaseModel):
    """An artifact that waits in the scratch directory for the pod to store it."""

    name: str
    content_type: str
    size: int
    path: Path


class Advanced(BaseModel):
    """The job has come further."""

    kind: Literal["advanced"] = "advanced"
    phase: str
    progress: Progress
    message: str | None = None


class Done(BaseModel):
    """The job ended well."""

    kind: Literal["done"] = "done"
    statistics: dict[str, int | float | str | bool | None]
    artifacts: list[ProducedArtifact]


class Broken(BaseModel):
    """The job ended with an error."""

    kind: Literal["broken"] = "broken"
    error: Failure
    tainted: bool = False
    """The process is not to be trusted with another file: it ends."""


Report = Annotated[Advanced | Done | Broken, Field(discriminator="kind")]
REPORT: TypeAdapter[Advanced | Done | Broken] = TypeAdapter(Report)


class WorkerContext:
    """What the steps of one job may use; the `Context` of the pipeline."""

    def __init__(self, job: Job, channel: socket.socket) -> None:
        self.run = job.run
        self.attempt = job.attempt
        self.ocr = job.ocr
        self.scratch = job.scratch / "work"
        self.artifacts: list[ProducedArtifact] = []
        self._results = job.scratch / "artifacts"
        self._channel = channel
        self._phase = ""
        self._last_report = 0.0

    def progress(self, phase: str, done: int, total: int, message: str | None = None) -> None:
        """Report the first, the last, and at most four a second of what is between."""
        now = time.monotonic()
        is_edge = phase != self._phase or done >= total
        if not is_edge and now - self._last_report < PROGRESS_INTERVAL:
            return
        self._phase, self._last_report = phase, now
        progress = Progress(done=done, total=total)
        _send(self._channel, Advanced(phase=phase, progress=progress, message=message))

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        """Leave an artifact for the pod to store."""
        data = content.encode() if isinstance(content, str) else content
        self._results.mkdir(exist_ok=True)
        path = self._results / str(len(self.artifacts))
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
    with channel, channel.makefile("rb") as jobs:
        for line in jobs:
            job = Job.model_validate_json(line)
            outcome = work(job, channel)
            _send(channel, outcome)
            if isinstance(outcome, Broken) and outcome.tainted:
                return


def work(job: Job, channel: socket.socket) -> Done | Broken:
    """Do one job; every exception becomes the outcome of the attempt."""
    context = WorkerContext(job, channel)
    document = Document(path=job.path, content_type=job.content_type, size=job.size)
    try:
        context.scratch.mkdir()
        document = run_pipeline(document, context)
        return Done(
            statistics=document.statistics,
            artifacts=context.artifacts,
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


def _send(channel: socket.socket, report: BaseModel) -> None:
    channel.sendall(report.model_dump_json().encode() + b"\n")


def _die_with_parent() -> None:
    """Have the kernel end this process when the pod is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(0)

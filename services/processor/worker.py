"""The worker process: receives jobs from its queue and runs them one at a time.

A job cannot affect anything beyond its process. If it runs out of memory, hangs or dies, the pod
sees the end of this attempt on the socket.
"""

import contextlib
import errno
import gc
import hashlib
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.processor import plugins
from services.processor.channel import (
    MAX_JOB,
    Advanced,
    Broken,
    Done,
    FrameTooLargeError,
    Job,
    Packed,
    PluginJob,
    ProducedArtifact,
    Ready,
    decode_job,
    encode,
)
from services.processor.failures import failure
from services.processor.isolation.cell import SOURCE, Cell
from services.processor.isolation.limits import (
    Limits,
    clean_environment,
    die_with_parent,
    keep_only,
)
from services.processor.isolation.namespaces import end_others
from services.processor.leftovers import has_children, remove_leftovers
from services.processor.machine import fault, system_error
from services.processor.reports import MAX_MESSAGE, MAX_NAME, Reports, measured
from services.processor.results import (
    MAX_CODE,
    MAX_DETAIL,
    advisory,
    checked_artifact,
    checked_statistics,
)
from services.processor.scratch import remove_tree
from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline, run_steps
from shared.events.facts import Failure
from shared.workerrors import PermanentError, TransientError, WorkError
from shared.writing import overwrite_file, write_file

log = logging.getLogger(__name__)

MAX_INLINE = 256 << 10
"""Bytes of artifacts sent over the socket; larger ones are passed as files in the scratch
directory."""

SCRATCH = "scratch"
"""Name of the attempt's scratch directory, among the temporary files."""

EXIT_OUT_OF_MEMORY = 71
"""Exit code of a worker that has too little memory left to report an outcome."""

BLOCK = 512
"""Bytes of the blocks in which `stat` reports disk usage."""

KIB = 1024
"""Unit of `ru_maxrss` on Linux. (macOS reports bytes, so workers there are replaced earlier.)"""


class WorkerContext:
    """The resources available to the steps of one job; the pipeline's `Context`."""

    def __init__(self, job: Job, channel: socket.socket, cell: Cell, number: int) -> None:
        """Create the context of a job.

        Args:
            number: number of the job in this process, from 1.
        """
        self.run = job.run
        self.attempt = job.attempt
        self.ocr = job.ocr
        self.artifacts: list[ProducedArtifact] = []
        self.content = bytearray()
        self._cell = cell
        self._number = number
        self._channel = channel
        self._reports = Reports()
        self.settings: Any = None
        self.step = ""

    @property
    def scratch(self) -> Path:
        """An empty directory for this attempt, removed afterwards."""
        folder = self._cell.temporary / SCRATCH
        folder.mkdir(exist_ok=True)
        return folder

    def progress(
        self, done: int, total: int, message: str | None = None, *, phase: str | None = None
    ) -> None:
        """Send a progress report if one is due. Never blocks for long and never fails."""
        try:
            self._report(done, total, message, phase)
        except Exception as error:  # Progress is advisory and must not fail a file.
            log.warning("a progress report was dropped: %s", _describe(error))

    def _report(self, done: object, total: object, message: object, phase: object) -> None:
        progress = measured(done, total)
        phase = advisory(phase or self.step, MAX_NAME)
        now = time.monotonic()
        if not self._reports.is_due(phase, done=progress.done, total=progress.total, now=now):
            return
        report = Advanced(
            phase=phase,
            progress=progress,
            message=advisory(message, MAX_MESSAGE) if message else None,
        )
        frame = encode(report)
        try:
            sent = self._channel.send(frame, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # The pod is behind on reading; the next report supersedes this one.
        if sent < len(frame):
            self._channel.sendall(frame[sent:])  # A partial frame would corrupt all that follows.

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        """Hand over an artifact for the pod to store."""
        name, content_type, data = checked_artifact(name, content_type, content)
        inline = len(self.content) + len(data) <= MAX_INLINE
        if inline:
            self.content += data
        else:
            outbox = self._cell.outbox / str(self._number)
            outbox.mkdir(exist_ok=True)
            write_file(outbox / str(len(self.artifacts)), data)
        self.artifacts.append(
            ProducedArtifact(name=name, content_type=content_type, size=len(data), inline=inline)
        )


def main(
    channel: socket.socket, queue: socket.socket, output: Connection, cell: Cell, limits: Limits
) -> None:
    """Run jobs until the pod closes the queue or a limit requires a new process.

    Args:
        channel: socket to the pod for reports.
        queue: socket that delivers one job per message.
        output: replaces standard output and standard error.
        cell: the directories and user of this process.
    """
    die_with_parent()
    os.setsid()  # The pod kills the whole process group.
    _redirect(output)
    channel, queue = keep_only(channel, queue)
    clean_environment(cell.temporary)
    keeper = os.getpid()
    missing = cell.enter(limits)
    own_processes = os.getpid() != keeper
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    channel.setblocking(True)
    queue.setblocking(True)
    try:
        channel.sendall(encode(Ready(missing=missing, own_processes=own_processes)))
        for number, job in enumerate(_jobs(queue), start=1):
            outcome = work(job, channel, cell, number)
            if number >= limits.files or _memory() > limits.growth:
                outcome.last = True
            if not end_others() if own_processes else has_children():
                outcome.last = True  # The pod kills the remaining processes with this one.
            if not remove_leftovers(cell.temporary, kept=SOURCE):
                outcome.last = True
            outcome, frame = _encoded(outcome)
            if isinstance(outcome, Broken):
                remove_tree(cell.outbox / str(number))
            channel.sendall(frame)
            if outcome.last:
                return
    except MemoryError:
        # There was not even enough memory to report the outcome.
        os._exit(EXIT_OUT_OF_MEMORY)


def _jobs(queue: socket.socket) -> Iterator[Job]:
    # Reused, because allocating it per job costs more than everything else for a small file.
    buffer = bytearray(MAX_JOB)
    message = memoryview(buffer)
    while size := queue.recv_into(buffer):
        yield decode_job(message[:size])


def work(job: Job, channel: socket.socket, cell: Cell, number: int) -> Done | Broken:
    """Run one job. Any exception becomes the outcome of the attempt.

    Args:
        number: number of the job in this process, from 1.
    """
    process = os.getpid()
    context = WorkerContext(job, channel, cell, number)
    path: Path | None = None
    try:
        path = _file_of(job, cell)
        document = Document(path=path, content_type=job.content_type, size=job.size)
        if job.plugin is None:
            document = run_pipeline(document, context)
        else:
            document = _run_plugin(job.plugin, document, context)
        return Done(
            statistics=checked_statistics(document.statistics),
            artifacts=context.artifacts,
            content=bytes(context.content),
        )
    except BaseException as error:
        if not isinstance(error, WorkError):
            log.exception("a step raised %s", type(error).__name__)
        outcome = _broken(error)
        if path and not outcome.error.retryable and _is_copy_damaged(job, path):
            meaning = "The copy of the file in the scratch directory is damaged."
            outcome.error = failure("machine_failed", meaning)
        if isinstance(error, MemoryError):
            return outcome
        outcome.used = _bytes_in(cell.temporary) + _bytes_in(cell.outbox)
        return outcome
    finally:
        if os.getpid() != process:
            os._exit(0)  # A step forked and this is the child; the pod expects one outcome.


def _file_of(job: Job, cell: Cell) -> Path:
    """Return the file to process.

    The content of a small job overwrites the previous file, since creating one takes longer than
    processing a small file. It is not truncated first: ext4 writes a truncated file to disk at
    once.

    Raises:
        PermanentError: `content_changed`.
    """
    if job.link:
        return cell.inbox / str(job.link)
    sha256 = job.source.sha256 if isinstance(job.source, Packed) else None
    if sha256 not in (None, hashlib.sha256(job.content).hexdigest()):
        raise PermanentError("content_changed", failure("content_changed").message)
    overwrite_file(cell.source, job.content)
    return cell.source


def _is_copy_damaged(job: Job, path: Path) -> bool:
    """Return True if the file written here differs from the job's content."""
    if job.link:
        return False  # The pod fetched this file and compares it.
    try:
        return path.read_bytes() != job.content
    except OSError:
        return True


def _bytes_in(folder: Path) -> int:
    """Return the bytes that all files below a folder take on disk."""
    sizes, folders = 0, [os.fspath(folder)]
    while folders:  # `os.walk` of Python 3.11 recurses, and a file may unpack to any depth.
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        sizes += entry.stat(follow_symlinks=False).st_blocks * BLOCK
    return sizes


def _run_plugin(asked: PluginJob, document: Document, context: WorkerContext) -> Document:
    """Run a plugin's pipeline with its own settings and memory limit.

    Raises:
        TransientError: `pipeline_missing`; another pod may have the plugin.
    """
    plugins.import_modules(asked.modules)
    pipeline = plugins.registered(asked.pipeline)
    if pipeline is None:
        message = f"The pipeline {asked.pipeline} is not installed on this pod."
        raise TransientError("pipeline_missing", message)
    if pipeline.settings is not None and asked.settings is not None:
        context.settings = pipeline.settings.model_validate_json(asked.settings)
    usual, most = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        if asked.memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (min(asked.memory, usual), most))
        return run_steps(pipeline.steps, document, context)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (usual, most))


def _encoded(outcome: Done | Broken) -> tuple[Done | Broken, bytes]:
    """Return the outcome and its frame; an outcome that cannot be encoded becomes a failure."""
    try:
        return outcome, encode(outcome)
    except FrameTooLargeError:
        error = failure("result_too_large")
    except Exception as unsound:  # Validated before, but a value may still not be valid JSON.
        log.exception("cannot encode an outcome")
        error = failure("bad_result", _describe(unsound))
    broken = Broken(error=error, last=outcome.last)
    return broken, encode(broken)


def _memory() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def _broken(error: BaseException) -> Broken:
    """Convert an exception to the outcome of the attempt."""
    number = system_error(error)
    if number is not None:
        # A library may have cached its own failure to initialize, so the process is replaced.
        return Broken(error=fault(number), last=True)
    match error:
        case WorkError():
            return Broken(error=_failure_of(error))
        case MemoryError():
            gc.collect()
            return Broken(error=failure("out_of_memory"), last=True)
        case ValidationError() if error.title in (Done.__name__, ProducedArtifact.__name__):
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            meaning = f"A step returned an invalid result: {where}: {first['msg']}."
            return Broken(error=failure("bad_result", meaning[:MAX_DETAIL]))
        case OSError() if error.errno == errno.EFBIG:
            return Broken(error=failure("file_too_large"))
        case BlockingIOError() if error.errno == errno.EAGAIN:
            return Broken(error=failure("too_many_processes"), last=True)
        case SystemExit():
            return Broken(error=failure("worker_exited"), last=True)
    last = not isinstance(error, Exception)
    meaning = f"A step raised {_describe(error)}."
    return Broken(error=failure("step_failed", meaning), last=last)


def _failure_of(error: WorkError) -> Failure:
    """Return the failure that a step raised, with cleaned texts."""
    code = advisory(getattr(error, "error_code", ""), MAX_CODE) or "step_failed"
    detail = advisory(getattr(error, "detail", ""), MAX_DETAIL) or type(error).__name__
    return Failure(code=code, message=detail, retryable=bool(error.retryable))


def _describe(error: BaseException) -> str:
    """Describe an error in one line, even if its `__str__` fails."""
    name = advisory(type(error).__name__, MAX_CODE)
    text = advisory(error, MAX_DETAIL)
    return f"{name}: {text}"[:MAX_DETAIL] if text else name


def _redirect(output: Connection) -> None:
    """Redirect the standard descriptors: input to `/dev/null`, output to the pod."""
    with open(os.devnull) as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    # Line-buffered, so that a job's output arrives before its outcome.
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )

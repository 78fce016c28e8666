"""One worker process as seen by the pod: its jobs, reports, output and death."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing import connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import cast

from services.processor import worker
from services.processor.channel import (
    Advanced,
    Broken,
    Done,
    Frames,
    GarbledError,
    JobQueue,
    Ready,
    Report,
    read_report,
)
from services.processor.death import cause_of_death, crash_of, is_from_outside
from services.processor.failures import failure
from services.processor.handover import Handover
from services.processor.isolation.cell import Cell
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import Layer
from services.processor.output_files import FOLDER
from services.processor.scratch import remove_tree

log = logging.getLogger(__name__)

OnAdvance = Callable[[Advanced], None]

_EXIT_CODES = threading.Lock()
"""Serializes reading of exit codes. `multiprocessing` also reaps ended processes when it starts
one, and if two threads wait for the same process, the second finds nothing."""

START_GRACE = 30.0
"""Seconds for a process to become ready; on an idle machine it takes tens of milliseconds."""

EXIT_GRACE = 2.0
"""Seconds for a process to exit once killed or asked to; SIGKILL takes milliseconds."""

MAX_OUTPUT = 1 << 20
"""Bytes that one job may write to standard output and error together. Verbose libraries stay far
below, and reading more would slow down the pod."""

OUTPUT_TAIL = 2000
"""Bytes from the end of a failed job's output that are logged: enough for a traceback."""


class WorkerStartError(Exception):
    """A worker process failed to start."""


class Output(asyncio.Protocol):
    """Standard output and error of a worker: counts the bytes and keeps the end."""

    def __init__(self, on_flood: Callable[[], None]) -> None:
        self._on_flood = on_flood
        self._written = 0
        self._end = b""

    def begin(self) -> None:
        """Reset for a new job."""
        self._written, self._end = 0, b""

    def data_received(self, data: bytes) -> None:
        """Count the output; report a flood."""
        self._written += len(data)
        self._end = (self._end + data)[-OUTPUT_TAIL:]
        if self._written > MAX_OUTPUT:
            self._on_flood()

    @property
    def tail(self) -> str:
        """The end of the current job's output."""
        return self._end.decode(errors="replace").strip()


class QueuedJob:
    """A job assigned to, or waiting for, a worker process."""

    def __init__(self, handover: Handover, on_advance: OnAdvance) -> None:
        loop = asyncio.get_running_loop()
        self.handover = handover
        self.on_advance = on_advance
        self.begun: asyncio.Future[WorkerProcess] = loop.create_future()
        """Set to the process that runs the job when its turn comes."""
        self.outcome: asyncio.Future[Done | Broken | None] = loop.create_future()
        """None if the process died."""
        self.holder: WorkerProcess | None = None
        """The process that has the job in its queue or runs it."""

    @property
    def has_begun(self) -> bool:
        return self.begun.done() and not self.begun.cancelled()

    def time_out(self) -> None:
        """Fail the job with `TimeoutError`."""
        if not self.outcome.done():
            self.outcome.set_exception(TimeoutError())


class WorkerProcess(asyncio.Protocol):
    """One worker process and its sockets.

    It runs one job at a time, in the order in which they were queued.
    """

    def __init__(self, process: ForkServerProcess, cell: Cell, queue: JobQueue) -> None:
        self._process = process
        self._cell = cell
        self._queue = queue
        self._jobs: deque[QueuedJob] = deque()
        self._done = 0
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._frames = Frames()
        self.output = Output(lambda: self._condemn("too_much_output"))
        self._transport: asyncio.Transport | None = None
        self._reason: str | None = None
        self._is_ending = False
        self._is_killed = False
        """True once the pod has killed the process."""
        self.died_idle = False
        """True if the process died while idle; no job reports such a death."""
        self.is_used = False
        """True once the process has had a job, which may have left temporary files."""

    @classmethod
    async def start(cls, context: ForkServerContext, cell: Cell, limits: Limits) -> "WorkerProcess":
        """Start a process that shares only sockets and its cell's folders with the pod.

        Raises:
            WorkerStartError: it is not ready in time, or has died.
        """
        try:
            return await cls._launch(context, cell, limits)
        except BaseException:
            await asyncio.to_thread(remove_tree, cell.folder)
            raise

    @classmethod
    async def _launch(
        cls, context: ForkServerContext, cell: Cell, limits: Limits
    ) -> "WorkerProcess":
        await asyncio.to_thread(cell.make_folders)
        ours, theirs = socket.socketpair()
        queue = JobQueue()
        read_end, write_end = context.Pipe(duplex=False)
        arguments = (theirs, queue.theirs, write_end, cell, limits)
        process = context.Process(target=worker.main, args=arguments, daemon=True)
        await asyncio.to_thread(_start, process)
        theirs.close()
        write_end.close()
        loop = asyncio.get_running_loop()
        _, started = await loop.create_connection(lambda: cls(process, cell, queue), sock=ours)
        await loop.connect_read_pipe(lambda: started.output, read_end)
        await started.wait_until_ready()
        return started

    async def wait_until_ready(self) -> None:
        """Wait until the process accepts jobs.

        Raises:
            WorkerStartError: it is not ready in time, or has died.
        """
        try:
            async with asyncio.timeout(START_GRACE):
                await self._ready
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                raise WorkerStartError(f"not ready within {START_GRACE:g} seconds") from None
            raise

    @property
    def alive(self) -> bool:
        return self._transport is not None and self._reason is None

    @property
    def accepts_jobs(self) -> bool:
        """True if the process will run jobs that are queued for it."""
        return self.alive and not self._is_ending

    @property
    def missing(self) -> tuple[Layer, ...]:
        """Isolation layers that this machine does not support."""
        return self._ready.result().missing

    @property
    def in_namespace(self) -> bool:
        """True if it has a PID namespace: all its processes end with the first one."""
        return self._ready.result().own_processes

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def load(self) -> int:
        """Number of its jobs: running and queued."""
        return len(self._jobs)

    def assign(self, job: QueuedJob) -> bool:
        """Queue a job. Return False if the queue is full.

        Raises:
            OSError: the job's file no longer exists, or the disk is full.
        """
        job.handover.create_link(self._cell.inbox)
        if not self._queue.put(job.handover.message):
            job.handover.remove_link()
            return False
        job.holder = self
        self.is_used = True
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._begin(job)
        return True

    def reclaim(self) -> list[QueuedJob]:
        """Remove and return the jobs that it has not started, for other processes."""
        unread = self._queue.reclaim()
        latest = list(self._jobs)[len(self._jobs) - unread :]
        if latest and latest[0].has_begun:
            self._queue.put(latest[0].handover.message)  # Its turn has just come.
        return self._return(latest)

    def reclaim_all(self) -> list[QueuedJob]:
        """Remove and return all jobs not known to have started, before the process is killed."""
        self._is_ending = True
        return self._return(list(self._jobs))

    def _return(self, jobs: list[QueuedJob]) -> list[QueuedJob]:
        returned = [job for job in jobs if not job.has_begun]
        for job in returned:
            job.holder = None
            job.handover.remove_link()
            self._jobs.remove(job)
        return [job for job in returned if not job.begun.cancelled()]

    async def outcome_of(self, job: QueuedJob) -> Done | Broken:
        """Return the outcome of a started job; if the process dies, the job is `Broken`."""
        outcome = await job.outcome or await self._post_mortem()
        if isinstance(outcome, Broken) and self.output.tail:
            log.warning("worker %s, %s: %s", self.pid, outcome.error.code, self.output.tail)
        return outcome

    async def kill(self) -> None:
        """Kill the process and everything it started, and remove its files."""
        self._is_killed = True
        if self._transport is not None:
            self._transport.abort()
        self._queue.close()
        self._kill()
        if await asyncio.to_thread(_exit_code, self._process) is None:
            self._process.kill()
        await asyncio.to_thread(remove_tree, self._cell.folder)

    def _kill(self) -> None:
        if self._ready.done() and not self._ready.exception() and self.in_namespace:
            self._process.terminate()  # The keeper kills everything in the namespace.
            return
        self._process.kill()
        # Without namespaces, child processes are killed through the process group.
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _post_mortem(self) -> Broken:
        """Return the outcome of a job whose process died or was condemned."""
        if self._is_killed and self._reason is None:
            # The pod killed it because of another job, before it knew that this one had started.
            meaning = "The worker process was killed because of another file."
            error = failure("worker_crashed", meaning)
            return Broken(error=error, last=True, from_outside=True)
        code = await asyncio.to_thread(_exit_code, self._process)
        if self._reason:
            return Broken(error=failure(self._reason), last=True)
        return Broken(
            error=cause_of_death(code),
            last=True,
            crash=crash_of(code),
            from_outside=is_from_outside(code),
        )

    def _condemn(self, reason: str) -> None:
        """Kill the process for a reason found by the pod."""
        if self._reason is None:
            self._reason = reason
            self._kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Receive reports; kill the process if they are invalid."""
        try:
            for frame in self._frames.feed(data):
                self._receive(read_report(frame))
        except GarbledError as error:
            log.warning("worker %s: %s", self.pid, error)
            self._condemn("worker_garbled")

    def connection_lost(self, _: Exception | None) -> None:
        """Settle the current job: the process has died or is about to."""
        self._transport = None
        if not self._ready.done():
            self._ready.set_exception(WorkerStartError(self.output.tail))
        self.died_idle = not self._jobs
        if self._jobs and self._jobs[0].has_begun:
            self._settle(None)

    def _receive(self, report: Report) -> None:
        if isinstance(report, Ready):
            if not self._ready.done():
                self._ready.set_result(report)
            return
        if not self._jobs or self._is_ending:
            raise GarbledError("the worker sent a report without a job")
        if isinstance(report, Advanced):
            self._jobs[0].on_advance(report)
        else:
            self._settle(report)

    def _begin(self, job: QueuedJob) -> None:
        self.output.begin()
        if not job.begun.done():
            job.begun.set_result(self)

    def _settle(self, outcome: Done | Broken | None) -> None:
        self._is_ending = outcome is None or outcome.last
        ended = self._jobs.popleft()
        ended.handover.remove_link()
        self._done += 1
        if isinstance(outcome, Done) and not all(each.inline for each in outcome.artifacts):
            self._collect_files(ended.handover.scratch)
        if not ended.outcome.done():
            ended.outcome.set_result(outcome)
        if self._jobs and self.accepts_jobs:
            self._begin(self._jobs[0])

    def _collect_files(self, scratch: str) -> None:
        """Move the job's files out of the worker's reach; `Done.contents` checks them there."""
        try:
            os.makedirs(scratch, exist_ok=True)  # noqa: PTH103
            os.rename(f"{self._cell.outbox}/{self._done}", f"{scratch}/{FOLDER}")  # noqa: PTH104
        except OSError as error:
            log.warning("worker %s: no files for job %d: %s", self.pid, self._done, error)


def _start(process: ForkServerProcess) -> None:
    with _EXIT_CODES:
        process.start()


def _exit_code(process: ForkServerProcess) -> int | None:
    """Return the exit code of a process that is about to exit; None if it does not in time."""
    connection.wait([process.sentinel], EXIT_GRACE)
    with _EXIT_CODES:
        return process.exitcode

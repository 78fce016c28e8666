"""The pod's side of the worker processes: hand out jobs, watch the clock, replace what dies."""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import cast

from services.processor import worker
from services.processor.channel import (
    Advanced,
    Broken,
    Done,
    Frames,
    GarbledError,
    Job,
    encode,
    read_report,
)
from services.processor.pace import Pace
from shared.events import Failure
from shared.telemetry import WORKERS_LOST

log = logging.getLogger(__name__)

OnAdvance = Callable[[Advanced], None]

EXIT_GRACE = 2.0
"""Seconds for a process that was killed or told to end to be gone; SIGKILL takes milliseconds."""


class Worker(asyncio.Protocol):
    """One worker process and the socket to it."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._outcome: asyncio.Future[Done | Broken | None] | None = None
        self._on_advance: OnAdvance | None = None

    @classmethod
    async def start(cls, context: ForkServerContext, memory_limit: int) -> "Worker":
        """Start a process; it shares nothing with the pod but one socket."""
        ours, theirs = socket.socketpair()
        process = context.Process(target=worker.main, args=(theirs, memory_limit), daemon=True)
        await asyncio.to_thread(process.start)
        theirs.close()
        loop = asyncio.get_running_loop()
        _, started = await loop.create_connection(lambda: cls(process), sock=ours)
        return started

    @property
    def alive(self) -> bool:
        return self._transport is not None

    async def run(self, job: Job, on_advance: OnAdvance) -> Done | Broken | None:
        """Do one job. None if the process died over it."""
        if self._transport is None:
            return None
        self._outcome = asyncio.get_running_loop().create_future()
        self._on_advance = on_advance
        self._transport.write(encode(job))
        return await self._outcome

    async def kill(self) -> int | None:
        """End the process at once; returns its exit code, negative for a signal."""
        if self._transport is not None:
            self._transport.abort()
        self._process.kill()
        return await self.exit_code()

    async def exit_code(self) -> int | None:
        """The exit code of a process that died by itself, negative for a signal."""
        await asyncio.to_thread(self._process.join, EXIT_GRACE)
        return self._process.exitcode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._receive(read_report(frame))
        except GarbledError as error:
            log.warning("worker %s: %s", self._process.pid, error)
            self._process.kill()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._settle(None)

    def _receive(self, report: Advanced | Done | Broken) -> None:
        if not isinstance(report, Advanced):
            self._settle(report)
        elif self._on_advance is not None:
            self._on_advance(report)

    def _settle(self, outcome: Done | Broken | None) -> None:
        self._on_advance = None
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(outcome)


class WorkerPool:
    """A fixed number of worker processes; each does one job at a time."""

    def __init__(
        self, *, size: int, memory_limit: int, time_limit: float, pace: Pace | None = None
    ) -> None:
        self.size = size
        self._memory_limit = memory_limit
        self._time_limit = time_limit
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([worker.__name__])
        self._idle: asyncio.LifoQueue[Worker | None] = asyncio.LifoQueue()
        self._workers: set[Worker] = set()
        self._work = (pace or Pace()).work

    async def start(self) -> None:
        """Start the processes."""
        for _ in range(self.size):
            self._idle.put_nowait(await self._start_worker())

    async def stop(self) -> None:
        """End the processes; jobs in work are lost."""
        await asyncio.gather(*(each.kill() for each in self._workers))
        self._workers.clear()

    async def run(self, job: Job, on_advance: OnAdvance) -> Done | Broken:
        """Do one job in a process of its own, as soon as one is free.

        A job that is cancelled, dies or outlives the time limit costs its process, and nothing
        else.
        """
        current = await self._idle.get()
        reusable = False
        try:
            if current is None or not current.alive:
                current = await self._replace(current)
            with self._work.measure():
                async with asyncio.timeout(self._time_limit):
                    outcome = await current.run(job, on_advance)
            reusable = isinstance(outcome, Done) or (outcome is not None and not outcome.tainted)
            return outcome or _crashed(await current.exit_code())
        except TimeoutError:
            return _timed_out(self._time_limit)
        finally:
            if not reusable:
                lost, current = current, None
                await asyncio.shield(self._discard(lost))
            self._idle.put_nowait(current)

    async def _start_worker(self) -> Worker:
        started = await Worker.start(self._context, self._memory_limit)
        self._workers.add(started)
        return started

    async def _replace(self, dead: Worker | None) -> Worker:
        await self._discard(dead)
        return await self._start_worker()

    async def _discard(self, lost: Worker | None) -> None:
        if lost is None or lost not in self._workers:
            return
        self._workers.discard(lost)
        WORKERS_LOST.inc()
        with contextlib.suppress(ProcessLookupError):
            await lost.kill()


def _crashed(code: int | None) -> Broken:
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGABRT:
            # What a native library does when it gets no memory.
            how += ", perhaps for want of memory (WAYBILL_MEMORY_LIMIT),"
    else:
        how = f"ended with exit code {code}"
    message = f"The worker process {how} while it worked on this file."
    return Broken(error=Failure(code="worker_crashed", message=message, retryable=True))


def _timed_out(limit: float) -> Broken:
    message = f"The work took longer than {limit:g} seconds; WAYBILL_TIME_LIMIT sets the limit."
    return Broken(error=Failure(code="timed_out", message=message, retryable=True))

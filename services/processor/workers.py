"""The pod's side of the worker processes: hand out jobs, watch the clock, replace what dies."""

import asyncio
import contextlib
import multiprocessing
from collections.abc import Awaitable, Callable

from services.processor import worker
from services.processor.channel import Broken, Done, Job
from services.processor.failures import failure
from services.processor.pace import Pace
from services.processor.worker_process import OnAdvance, WorkerProcess
from shared.telemetry import WORKERS_LOST

OnTaken = Callable[[], Awaitable[None]]


async def _nothing_to_tell() -> None:
    pass


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
        self._idle: asyncio.LifoQueue[WorkerProcess | None] = asyncio.LifoQueue()
        self._workers: set[WorkerProcess] = set()
        self._work = (pace or Pace()).work

    async def start(self) -> None:
        """Start the processes."""
        for _ in range(self.size):
            self._idle.put_nowait(await self._start_worker())

    async def stop(self) -> None:
        """End the processes; jobs in work are lost."""
        await asyncio.gather(*(each.kill() for each in self._workers))
        self._workers.clear()

    async def run(
        self, job: Job, on_advance: OnAdvance, *, on_taken: OnTaken = _nothing_to_tell
    ) -> Done | Broken:
        """Do one job in a process of its own, as soon as one is free.

        A job that is cancelled, dies or outlives the time limit costs its process, and nothing
        else.

        Args:
            on_taken: called when a process is free for the job.
        """
        current = await self._idle.get()
        reusable = False
        try:
            if current is None or not current.alive:
                current = await self._replace(current)
            await on_taken()
            with self._work.measure():
                async with asyncio.timeout(self._time_limit):
                    outcome = await current.run(job, on_advance)
            reusable = isinstance(outcome, Done) or not outcome.tainted
            return outcome
        except TimeoutError:
            return _timed_out(self._time_limit)
        finally:
            if not reusable:
                lost, current = current, None
                await asyncio.shield(self._discard(lost))
            self._idle.put_nowait(current)

    async def _start_worker(self) -> WorkerProcess:
        started = await WorkerProcess.start(self._context, self._memory_limit)
        self._workers.add(started)
        return started

    async def _replace(self, dead: WorkerProcess | None) -> WorkerProcess:
        await self._discard(dead)
        return await self._start_worker()

    async def _discard(self, lost: WorkerProcess | None) -> None:
        if lost is None or lost not in self._workers:
            return
        self._workers.discard(lost)
        WORKERS_LOST.inc()
        with contextlib.suppress(ProcessLookupError):
            await lost.kill()


def _timed_out(limit: float) -> Broken:
    meaning = f"The work took longer than {limit:g} seconds."
    return Broken(error=failure("timed_out", meaning))

"""The pod's side of the worker processes: hand out jobs, watch the clock, replace what dies."""

import asyncio
import itertools
import logging
import multiprocessing
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.processor import worker
from services.processor.channel import Broken, Done, Job
from services.processor.failures import failure
from services.processor.isolation import Limits
from services.processor.pace import Pace
from services.processor.worker_process import OnAdvance, WorkerProcess, WorkerStartError
from shared.telemetry import WORKERS_LOST

log = logging.getLogger(__name__)

OnTaken = Callable[[], Awaitable[None]]

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before another try to start a process, where the machine has no room; doubled."""


async def _nothing_to_tell() -> None:
    pass


class WorkerPool:
    """A fixed number of worker processes; each does one job at a time."""

    def __init__(
        self,
        *,
        size: int,
        folder: Path,
        limits: Limits,
        time_limit: float,
        pace: Pace | None = None,
    ) -> None:
        """Args:
        folder: where each process gets a directory of its own.
        time_limit: seconds that one job may take.
        """
        self.size = size
        self._folder = folder
        self._limits = limits
        self._time_limit = time_limit
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([worker.__name__])
        self._numbers = itertools.count(1)
        self._idle: asyncio.LifoQueue[WorkerProcess] = asyncio.LifoQueue()
        self._workers: set[WorkerProcess] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._work = (pace or Pace()).work

    async def start(self) -> None:
        """Start the processes.

        Raises:
            WorkerStartError: one does not come up.
        """
        for _ in range(self.size):
            self._idle.put_nowait(await self._launch())
        if any(not each.in_namespace for each in self._workers):
            log.warning(
                "The kernel or the container forbids namespaces: worker processes can reach the "
                "network and see other processes."
            )

    async def stop(self) -> None:
        """End the processes; jobs in work are lost."""
        for task in self._replacing:
            task.cancel()
        if self._replacing:
            await asyncio.wait(self._replacing)
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
        limit = (job.plugin and job.plugin.seconds) or self._time_limit
        current = await self._living()
        reusable, lost = True, False
        try:
            await on_taken()
            reusable, lost = False, True
            with self._work.measure():
                async with asyncio.timeout(limit):
                    outcome = await current.run(job, on_advance)
            reusable, lost = not outcome.last, not current.alive
            return outcome
        except TimeoutError:
            return _timed_out(limit)
        finally:
            if reusable:
                self._idle.put_nowait(current)
            else:
                await asyncio.shield(self._retire(current, lost=lost))

    async def _living(self) -> WorkerProcess:
        """An idle process, as soon as there is one that did not die while it waited."""
        while True:
            found = await self._idle.get()
            if found.alive:
                return found
            await asyncio.shield(self._retire(found, lost=True))

    async def _retire(self, former: WorkerProcess, *, lost: bool) -> None:
        """End a process; another one takes its place in the background."""
        if former not in self._workers:
            return  # The pool is being stopped.
        self._workers.discard(former)
        if lost:
            WORKERS_LOST.inc()
        replacing = asyncio.create_task(self._replace())
        self._replacing.add(replacing)
        replacing.add_done_callback(self._replacing.discard)
        await former.kill()

    async def _replace(self) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                self._idle.put_nowait(await self._launch())
                return
            except (OSError, EOFError, WorkerStartError) as error:
                log.error("a worker process did not start: %r; again in %.0f s", error, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _launch(self) -> WorkerProcess:
        folder = self._folder / f"worker-{next(self._numbers)}"
        started = await WorkerProcess.start(self._context, folder, self._limits)
        self._workers.add(started)
        return started


class WorkerPools:
    """Two pools as one: the few jobs that may use the network have processes of their own."""

    def __init__(self, usual: WorkerPool, networked: WorkerPool | None) -> None:
        self._usual = usual
        self._networked = networked

    async def start(self) -> None:
        """Start the processes.

        Raises:
            WorkerStartError: one does not come up.
        """
        await self._usual.start()
        if self._networked is not None:
            await self._networked.start()

    async def stop(self) -> None:
        """End the processes; jobs in work are lost."""
        await self._usual.stop()
        if self._networked is not None:
            await self._networked.stop()

    async def run(
        self, job: Job, on_advance: OnAdvance, *, on_taken: OnTaken = _nothing_to_tell
    ) -> Done | Broken:
        """Do one job, as `WorkerPool.run` does."""
        pool = self._usual
        if job.plugin is not None and job.plugin.network and self._networked is not None:
            pool = self._networked
        return await pool.run(job, on_advance, on_taken=on_taken)


def _timed_out(limit: float) -> Broken:
    meaning = f"The work took longer than {limit:g} seconds."
    return Broken(error=failure("timed_out", meaning))

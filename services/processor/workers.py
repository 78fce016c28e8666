"""The pool of worker processes: assign jobs, enforce time limits, replace dead processes."""

import asyncio
import itertools
import logging
import multiprocessing
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from services.processor import worker
from services.processor.channel import Broken, Done, Job
from services.processor.failures import failure
from services.processor.handover import prepare
from services.processor.isolation.cell import Isolation, prepare_isolation
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import REMEDIES, Layer, Policy, Rung, refusal, rung_of
from services.processor.pace import Pace
from services.processor.worker_process import OnAdvance, QueuedJob, WorkerProcess, WorkerStartError
from shared.blobs.bloberrors import BlobMissingError
from shared.telemetry import ISOLATION_RUNG, WORKERS_LOST

log = logging.getLogger(__name__)

AHEAD = 12
"""Short jobs queued ahead of a running one in each process. The process then sleeps less often;
waking it takes about as long as a short job."""

SHORT = 0.002
"""Seconds of work below which the round trip to the process matters."""

OnStart = Callable[[float], Awaitable[None]]
"""Called when a process starts a job, with the job's time limit in seconds."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before another try to start a process: first and longest delay; doubled each time."""


HARDENED = "services.processor.isolation.hardened"
"""The module that the fork server preloads first."""


class NotIsolatedError(WorkerStartError):
    """Workers cannot be isolated as the settings require."""


async def _ignore_start(_: float) -> None:
    pass


class WorkerPool:
    """A fixed number of worker processes, each running one job at a time.

    While jobs are short, several are queued in each process. The process then need not wait for a
    round trip to the pod between two jobs. If another process is idle first, it takes them over.
    """

    def __init__(
        self,
        *,
        size: int,
        folder: Path,
        limits: Limits,
        time_limit: float,
        pace: Pace | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        """Create a pool without processes.

        Args:
            folder: parent of the directories of the processes.
            time_limit: seconds that one job may take.
            isolation: default: as far as this machine supports it.
        """
        self.size = size
        self._folder = folder
        self._limits = limits
        self._time_limit = time_limit
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([HARDENED, worker.__name__])
        self._isolation = isolation or prepare_isolation(hidden=[folder])
        self._numbers = itertools.count(1)
        self._waiting: deque[QueuedJob] = deque()
        self._workers: set[WorkerProcess] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._work = (pace or Pace()).work

    async def start(self) -> None:
        """Start the processes.

        Raises:
            NotIsolatedError: they cannot be isolated as required.
            WorkerStartError: a process does not start.
        """
        for _ in range(self.size):
            await self._launch()
        self._report_rung()

    def _report_rung(self) -> None:
        """Log and export the isolation level, which is the same for all processes."""
        policy, missing = self._isolation.policy, self.missing
        rung = rung_of(missing)
        for each in Rung:
            ISOLATION_RUNG.labels(each).set(each is rung)
        if policy is Policy.OFF:
            log.critical(
                "WAYBILL_ISOLATION=off: workers are NOT isolated. A malicious file can read all "
                "files, keys and secrets of this processor."
            )
        elif missing:
            level = logging.WARNING if rung is Rung.LANDLOCK else logging.ERROR
            remedies = "; ".join(f"{each}: {REMEDIES[each]}" for each in missing)
            log.log(level, "worker isolation: %s. Missing: %s", rung, remedies)
        else:
            log.info("worker isolation: %s", rung)

    @property
    def missing(self) -> tuple[Layer, ...]:
        """Isolation layers that this machine does not support."""
        return tuple({layer: None for each in self._workers for layer in each.missing})

    async def stop(self) -> None:
        """Stop the processes; running jobs are lost."""
        self._is_stopped = True
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await asyncio.gather(*(each.kill() for each in self._workers))
        self._workers.clear()

    async def run(
        self, job: Job, on_advance: OnAdvance, *, on_start: OnStart = _ignore_start
    ) -> Done | Broken:
        """Run one job as soon as a process is free.

        A job that is cancelled, crashes or exceeds the time limit loses its process. Other jobs
        are not affected.
        """
        limit = (job.plugin and job.plugin.seconds) or self._time_limit
        try:
            queued = QueuedJob(await prepare(job), on_advance)
        except BlobMissingError:
            return Broken(error=failure("blob_missing"))
        self._waiting.append(queued)
        self._assign_jobs()
        reusable, lost = False, True
        try:
            current = await queued.begun
            await on_start(limit)
            # `asyncio.timeout` would take 4 µs.
            timer = asyncio.get_running_loop().call_later(limit, queued.time_out)
            try:
                with self._work.measure():
                    outcome = await current.outcome_of(queued)
            finally:
                timer.cancel()
            reusable, lost = not outcome.last, queued.outcome.result() is None
            return outcome
        except TimeoutError:
            return _timed_out(limit)
        finally:
            if not reusable:
                await asyncio.shield(self._abandon(queued, lost=lost))
            self._assign_jobs()

    def renew_idle(self) -> None:
        """Replace idle processes, which removes their temporary files."""
        for each in [each for each in self._workers if each.is_used and each.load == 0]:
            self._in_background(self._retire(each, lost=False))

    def _assign_jobs(self) -> None:
        """Assign waiting jobs to the processes with the shortest queues."""
        for each in self._workers:
            if each.died_idle:
                self._in_background(self._retire(each, lost=True))
        candidates = [each for each in self._workers if each.accepts_jobs]
        if not candidates:
            return
        if not self._waiting and any(each.load == 0 for each in candidates):
            busiest = max(candidates, key=_load)
            if busiest.load > 1:
                self._waiting.extend(busiest.reclaim())
        room = 1 + (AHEAD if self._work.seconds < SHORT else 0)
        while self._waiting and (freest := min(candidates, key=_load)).load < room:
            if not self._assign(self._waiting[0], freest):
                return  # Its queue is full.
            self._waiting.popleft()

    def _assign(self, queued: QueuedJob, target: WorkerProcess) -> bool:
        try:
            return target.assign(queued)
        except OSError as error:  # The job's file no longer exists, or the disk is full.
            if not queued.begun.done():
                queued.begun.set_exception(error)
            return True

    async def _abandon(self, queued: QueuedJob, *, lost: bool) -> None:
        """Stop a job, if necessary by killing its process."""
        if queued.holder is not None and not queued.has_begun:
            self._waiting.extendleft(reversed(queued.holder.reclaim()))
        if queued.holder is not None:
            await self._retire(queued.holder, lost=lost)
        elif queued in self._waiting:
            self._waiting.remove(queued)

    async def _retire(self, former: WorkerProcess, *, lost: bool) -> None:
        """Kill a process and start its replacement in the background."""
        if former not in self._workers:
            return  # The pool is stopping.
        self._workers.discard(former)
        self._waiting.extendleft(reversed(former.reclaim_all()))
        if lost:
            WORKERS_LOST.inc()
        self._in_background(self._replace())
        await former.kill()

    def _in_background(self, act: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(act)
        self._background.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a worker process was not shut down cleanly", exc_info=error)

    async def _replace(self) -> None:
        delay = FIRST_DELAY
        while not self._is_stopped:
            try:
                await self._launch()
                return
            except (OSError, EOFError, WorkerStartError) as error:
                log.error("a worker process did not start: %r; retrying in %.0f s", error, delay)
            except Exception:  # Without a retry the pool would shrink until nothing runs.
                log.exception("a worker process did not start; retrying in %.0f s", delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    async def _launch(self) -> None:
        cell = self._isolation.cell(self._folder / f"worker-{next(self._numbers)}")
        started = await WorkerProcess.start(self._context, cell, self._limits)
        if refused := refusal(self._isolation.policy, started.missing):
            await started.kill()
            raise NotIsolatedError(refused)
        self._workers.add(started)
        self._assign_jobs()


class WorkerPools:
    """Two pools behind one interface; jobs that may use the network run in separate processes."""

    def __init__(self, usual: WorkerPool, networked: WorkerPool | None) -> None:
        self._usual = usual
        self._networked = networked

    @property
    def missing(self) -> tuple[Layer, ...]:
        """Isolation layers that this machine does not support."""
        return self._usual.missing

    async def start(self) -> None:
        """Start the processes.

        Raises:
            NotIsolatedError: they cannot be isolated as required.
            WorkerStartError: a process does not start.
        """
        await self._usual.start()
        if self._networked is not None:
            await self._networked.start()

    async def stop(self) -> None:
        """Stop the processes; running jobs are lost."""
        await self._usual.stop()
        if self._networked is not None:
            await self._networked.stop()

    def renew_idle(self) -> None:
        """Replace idle processes, as `WorkerPool.renew_idle` does."""
        self._usual.renew_idle()
        if self._networked is not None:
            self._networked.renew_idle()

    async def run(
        self, job: Job, on_advance: OnAdvance, *, on_start: OnStart = _ignore_start
    ) -> Done | Broken:
        """Run one job, as `WorkerPool.run` does."""
        pool = self._usual
        if job.plugin is not None and job.plugin.network and self._networked is not None:
            pool = self._networked
        return await pool.run(job, on_advance, on_start=on_start)


def _load(worker: WorkerProcess) -> int:
    return worker.load


def _timed_out(limit: float) -> Broken:
    meaning = f"Processing exceeded the time limit of {limit:g} seconds."
    return Broken(error=failure("timed_out", meaning))

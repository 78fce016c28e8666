"""The processor's application: a consumer with health and metrics beside it."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from services.processor.consumer import WorkConsumer
from services.processor.control import CancelRequests
from services.processor.isolation.configured import isolation_of
from services.processor.isolation.limits import Limits
from services.processor.isolation.rung import Layer, rung_of
from services.processor.outcomes import Outcomes
from services.processor.pace import Pace
from services.processor.plugins import load_plugins
from services.processor.run import Runner
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.space import ScratchSpace
from services.processor.workers import WorkerPool, WorkerPools
from shared.blobs import open_blob_store
from shared.head_method import HeadAsGet
from shared.messaging import create_topics
from shared.publishing import Publisher
from shared.telemetry import health_router

log = logging.getLogger(__name__)

CROWD_LINGER = 0.01
"""Seconds that the events of many files wait to go to Kafka together; a lone one leaves at once.
Twice as long as usual saves Kafka a sixth of its processor time, and as many files may be begun
ahead of the workers as that takes, see `lanes`."""


class Processor:
    """The parts of one pod, wired by hand."""

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings
        self._publisher = Publisher(
            settings, client_id=f"processor-{settings.pod}", crowd_linger=CROWD_LINGER
        )
        cancels = CancelRequests(settings)
        pace = Pace()
        self._scratch = Scratch(settings.scratch)
        self.space = ScratchSpace(self._scratch.folder)
        self._watching: asyncio.Task[None] | None = None
        pipelines = load_plugins(settings.plugins)
        limits = Limits(
            memory=settings.memory_limit,
            file=settings.file_limit,
            files=settings.worker_files,
            growth=settings.worker_growth,
        )
        # One more than is worked by large files or for one owner; see `lanes.places`.
        size = settings.workers + 1

        isolation = isolation_of(settings, self._scratch.folder)

        def pool(name: str, limits: Limits) -> WorkerPool:
            return WorkerPool(
                size=size,
                folder=self._scratch.subfolder(name),
                limits=limits,
                time_limit=settings.time_limit,
                pace=pace,
                isolation=isolation,
            )

        self._pool = WorkerPools(
            pool("workers", limits),
            pool("networked", replace(limits, network=True)) if pipelines.any_network else None,
        )
        self.space.on_full = self._pool.renew_idle
        outcomes = Outcomes(
            settings=settings, publisher=self._publisher, cancels=cancels, pace=pace
        )
        runner = Runner(
            settings=settings,
            publisher=self._publisher,
            outcomes=outcomes,
            blobs=open_blob_store(settings),
            pool=self._pool,
            scratch=self._scratch,
            space=self.space,
            pipelines=pipelines,
        )
        self.consumer = WorkConsumer(
            settings=settings,
            runner=runner,
            outcomes=outcomes,
            pace=pace,
            cancels=cancels,
            space=self.space,
        )

    async def run(self) -> None:
        """Work until drained; waits for a Kafka that is still starting."""
        self._watching = asyncio.create_task(self.space.watch())
        await create_topics(self._settings)
        await self._publisher.start()
        await self._pool.start()
        await self.consumer.run()

    @property
    def missing_isolation(self) -> tuple[Layer, ...]:
        """Layers of the isolation of workers that this machine does not allow."""
        return self._pool.missing

    async def stop(self) -> None:
        """Drain: finish what ends within the grace, give back the rest."""
        await self.consumer.drain(self._settings.shutdown_grace)
        await self._pool.stop()
        await self._publisher.stop()
        if self._watching is not None:
            self._watching.cancel()
        self._scratch.remove()


def create_app(settings: ProcessorSettings) -> FastAPI:
    """The processor as an application; nothing is connected before it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        processor = app.state.processor = Processor(settings)
        running = asyncio.create_task(processor.run())
        running.add_done_callback(_end_process_on_failure)
        yield
        processor.consumer.begin_drain()
        await processor.stop()
        running.cancel()

    def not_ready() -> str | None:
        processor: Processor | None = getattr(app.state, "processor", None)
        if processor is None or not processor.consumer.ready:
            return "waiting for Kafka to assign partitions"
        return None

    def note() -> str | None:
        """What an operator should know, though the pod works: no room, or workers less isolated."""
        processor: Processor | None = getattr(app.state, "processor", None)
        if processor is None:
            return None
        missing = processor.missing_isolation
        isolation = f"isolation of workers: {rung_of(missing)}; missing: {', '.join(missing)}"
        notes = [processor.space.trouble, isolation if missing else None]
        return "; ".join(each for each in notes if each) or None

    app = FastAPI(title="Waybill processor", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(HeadAsGet)
    app.include_router(health_router(not_ready, note))
    return app


def _end_process_on_failure(running: asyncio.Task[None]) -> None:
    """A pod that cannot consume is of no use: end, and be started again."""
    if not running.cancelled() and (error := running.exception()) is not None:
        log.critical("the consumer failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)

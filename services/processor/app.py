"""The processor application: a Kafka consumer with health and metrics endpoints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from services.processor import loops
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
from shared.background.clock_probe import CLOCK_PROBE, clock_probe
from shared.background.supervision import RunningLoop, Supervisor, after
from shared.blobs.blobs import open_blob_store
from shared.http.head_method import HeadAsGet
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.telemetry import health_router

BURST_LINGER = 0.01
"""Seconds that the publisher waits to batch events under load; a single event is sent at once.
Doubling the usual value saves Kafka a sixth of its CPU time. `lanes` starts enough files ahead of
the workers to make up for the delay."""


START_PATIENCE = 20.0
"""Seconds to wait for a Kafka that is still starting before anything is logged."""

CHECK_INTERVAL = 2.0
"""Seconds between two checks that Kafka answers the publisher."""


class Processor:
    """The components of one pod, wired by hand."""

    def __init__(self, settings: ProcessorSettings) -> None:
        self._settings = settings
        self._publisher = Publisher(
            settings, client_id=f"processor-{settings.pod}", burst_linger=BURST_LINGER
        )
        self.supervisor = Supervisor(kill=settings.chaos_kill_loop)
        self._prepared = asyncio.Event()
        cancels = self._cancels = CancelRequests(settings)
        pace = Pace()
        self._scratch = Scratch(settings.scratch)
        self.space = ScratchSpace(self._scratch.folder)
        pipelines = load_plugins(settings.plugins)
        limits = Limits(
            memory=settings.memory_limit,
            file=settings.file_limit,
            files=settings.worker_files,
            growth=settings.worker_growth,
        )
        # One more than large files or a single owner may occupy; see `lanes.places`.
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

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Process files during the `with` block, and drain when it ends."""
        async with self.supervisor.running(
            (loops.PUBLISHER, self._keep_connected),
            (loops.CANCELS, after(self._prepared, self._cancels.follow)),
            (loops.COMMITTER, self.consumer.committer.run),
            (loops.CONSUMER, after(self._prepared, self._consume)),
            (loops.SCRATCH, self.space.watch),
            (CLOCK_PROBE, after(self._prepared, clock_probe(self._publisher))),
        ):
            try:
                yield
            finally:
                await self._stop()
        self._scratch.remove()

    @property
    def missing_isolation(self) -> tuple[Layer, ...]:
        """Isolation layers that this machine does not support."""
        return self._pool.missing

    async def _keep_connected(self, loop: RunningLoop) -> None:
        """Create the topics, connect the publisher, and report whether Kafka answers it.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer at startup.
        """
        if not self._prepared.is_set():
            await create_topics(self._settings, patience=START_PATIENCE)
            await self._publisher.start()
            self._prepared.set()
        while True:
            if await self._publisher.answers():
                loop.succeeded()
            else:
                loop.waits_for("Kafka")  # The producer reconnects by itself.
            await asyncio.sleep(CHECK_INTERVAL)

    async def _consume(self, loop: RunningLoop) -> None:
        """Start the worker processes and consume.

        Raises:
            WorkerStartError: a worker process does not start.
            KafkaError: Kafka reported an error that a retry does not resolve.
        """
        while self.space.unavailable_reason is not None:  # Workers cannot start on a full disk.
            loop.waits_for("free space on the scratch disk")
            await asyncio.sleep(CHECK_INTERVAL)
        await self._pool.start()
        await self.consumer.run(loop)

    async def _stop(self) -> None:
        """Drain: finish what ends within the grace period, release the rest."""
        await self.consumer.drain(self._settings.shutdown_grace)
        await self._pool.stop()
        await self._publisher.stop()


def create_app(settings: ProcessorSettings) -> FastAPI:
    """Create the processor's application. Nothing connects before it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        processor = app.state.processor = Processor(settings)
        async with processor.working():
            yield
            processor.consumer.begin_drain()

    def not_ready() -> str | None:
        processor: Processor | None = getattr(app.state, "processor", None)
        if processor is None or not processor.consumer.ready:
            reason = processor.space.unavailable_reason if processor is not None else None
            return reason or "waiting for Kafka to assign partitions"
        return processor.supervisor.unavailable_reason

    def degraded() -> list[str]:
        processor: Processor | None = getattr(app.state, "processor", None)
        return processor.supervisor.degraded if processor is not None else []

    def note() -> str | None:
        """Return warnings for operators of a ready pod: a full disk or missing isolation layers."""
        processor: Processor | None = getattr(app.state, "processor", None)
        if processor is None:
            return None
        missing = processor.missing_isolation
        isolation = f"worker isolation: {rung_of(missing)}; missing: {', '.join(missing)}"
        notes = [processor.space.unavailable_reason, isolation if missing else None]
        return "; ".join(each for each in notes if each) or None

    app = FastAPI(title="Waybill processor", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(HeadAsGet)
    app.include_router(health_router(not_ready, note, degraded))
    return app

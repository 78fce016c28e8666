"""The status service's application."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from services.status import dashboard
from services.status.api import (
    admin,
    asyncapi,
    batches,
    bulk,
    commands,
    files,
    listing,
    page,
    polling,
    session,
    shares,
    socket,
    stats,
    stream,
    tickets,
)
from services.status.api import webhooks as webhook_api
from services.status.api.dependencies import State
from services.status.api.lasting import LastingApp
from services.status.auditor import Auditor
from services.status.cancellation import Cancellations, Settler
from services.status.commands import Commands
from services.status.dead import DeadLetters
from services.status.deletion import Deletions, Eraser
from services.status.fanout import FanOut
from services.status.hub import Hub
from services.status.monitor import Monitor
from services.status.projector import Projector
from services.status.retention import Retention
from services.status.revocation import Revocations
from services.status.runs import Runs
from services.status.settings import StatusSettings
from services.status.sharing import Sharing
from services.status.store import FileStore
from services.status.tickets import Tickets
from services.status.webhooks.courier import Courier
from services.status.webhooks.deliveries import Deliveries
from services.status.webhooks.registry import Webhooks
from shared import problems
from shared.apikeys import ApiKeys
from shared.auth import make_authenticator
from shared.blobs import open_blob_store
from shared.errors import UnavailableError
from shared.head_method import HeadAsGet
from shared.messaging import create_topics
from shared.outbound import Outbound
from shared.publishing import Publisher
from shared.reading import parse_once
from shared.telemetry import health_router

log = logging.getLogger(__name__)

START_RETRY_DELAY = 0.5
"""Seconds between two tries to reach a MongoDB that is still starting."""

COMMAND_TIMEOUT = 5.0
"""Seconds to wait for Kafka before a command is answered 503: as long as an upload waits."""

WEBHOOK_TIMEOUT = 10.0
"""Seconds that a server may take to answer a webhook."""


def create_app(settings: StatusSettings) -> FastAPI:
    """The status service; nothing is connected before it starts."""
    store = FileStore(settings)
    hub = Hub(
        store,
        max_subscribers=settings.max_subscribers,
        max_per_client=settings.max_subscribers_per_client,
    )
    fanout = FanOut(settings, hub)
    monitor = Monitor(settings, store)
    auditor = Auditor(settings, store, monitor.traffic)
    # As for uploads: a command that was answered 503 must not be given later on.
    publisher = Publisher(settings, client_id="status", publish_timeout=COMMAND_TIMEOUT)
    projector = Projector(store, publisher, parse=parse_once)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:  # noqa: ARG001
        runs = Runs(hub, publisher)
        cancellations = Cancellations(hub, publisher)
        deletions = Deletions(hub, publisher)
        blobs = open_blob_store(settings)
        keys = ApiKeys(blobs)
        webhooks = Webhooks(blobs)
        outbound = Outbound(private=settings.webhooks_private, seconds=WEBHOOK_TIMEOUT)
        courier = Courier(
            settings=settings,
            hub=hub,
            webhooks=webhooks,
            deliveries=Deliveries(store),
            outbound=outbound,
            publisher=publisher,
        )
        tasks = (
            fanout.run,
            monitor.run,
            auditor.run,
            Eraser(store, blobs, publisher).run,
            Settler(settings, store, hub, cancellations).run,
            Revocations(hub, keys).run,
            Retention(settings.retention, store, deletions).run,
            courier.run,
            partial(hub.beat, settings.heartbeat),
        )
        running = asyncio.create_task(_run(settings, store, tasks, publisher, projector))
        running.add_done_callback(_end_process_on_failure)
        yield State(
            settings=settings,
            authenticator=make_authenticator(settings, keys),
            store=store,
            hub=hub,
            blobs=blobs,
            publisher=publisher,
            runs=runs,
            commands=Commands(
                publisher,
                cancellations=cancellations,
                runs=runs,
                deletions=deletions,
                sharing=Sharing(hub, publisher),
            ),
            letters=DeadLetters(settings),
            webhooks=webhooks,
            outbound=outbound,
            tickets=Tickets(store, keys),
            monitor=monitor,
            auditor=auditor,
        )
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await outbound.close()
        store.close()

    app = LastingApp(
        title="Waybill status",
        version=version("waybill"),
        summary="What is happening to my file?",
        lifespan=lifespan,
    )
    app.state.hub = hub
    app.add_middleware(HeadAsGet)
    problems.install(app)
    app.include_router(polling.router)
    app.include_router(files.router)
    app.include_router(listing.router)
    app.include_router(bulk.router)
    app.include_router(commands.router)
    app.include_router(shares.reading)
    app.include_router(shares.commanding)
    app.include_router(batches.router)
    app.include_router(admin.router)
    app.include_router(tickets.router)
    app.include_router(stream.router)
    app.include_router(socket.router)
    app.include_router(asyncapi.router)
    app.include_router(stats.router)
    app.include_router(webhook_api.reading)
    app.include_router(webhook_api.commanding)
    app.include_router(page.router)
    app.include_router(session.router)
    app.include_router(health_router(lambda: hub.behind and f"waiting for {hub.behind}"))
    dashboard.mount(app, settings.upload_url)
    return app


async def _run(
    settings: StatusSettings,
    store: FileStore,
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    publisher: Publisher,
    projector: Projector,
) -> None:
    """Project, and do all else that goes on all the while, until cancelled."""
    await create_topics(settings)
    while True:
        try:
            await store.prepare()
            break
        except UnavailableError as error:
            log.warning("waiting for MongoDB: %s", error)
            await asyncio.sleep(START_RETRY_DELAY)
    async with publisher:
        try:
            await projector.start(settings)
            async with asyncio.TaskGroup() as group:
                for task in (projector.watch, *tasks):
                    group.create_task(task())
        finally:
            await projector.stop()


def _end_process_on_failure(running: asyncio.Task[None]) -> None:
    """A pod without projector or fan-out shows the past: end, and be started again."""
    if not running.cancelled() and (error := running.exception()) is not None:
        log.critical("projection or fan-out failed", exc_info=error)
        os.kill(os.getpid(), signal.SIGTERM)

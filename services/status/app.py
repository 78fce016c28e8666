"""The application of the status service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI

from services.status import dashboard, loops
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
from services.status.api.deferred_response import DeferringApp
from services.status.api.dependencies import AppState
from services.status.commands.cancellation import Cancellations, Settler
from services.status.commands.commands import Commands
from services.status.commands.dead import DeadLetters
from services.status.commands.deletion import Deletions, Eraser
from services.status.commands.retention import Retention
from services.status.commands.runs import Runs
from services.status.commands.sharing import Sharing
from services.status.commands.waiting_uploads import WaitingUploads
from services.status.live.fanout import FanOut
from services.status.live.hub import Hub
from services.status.live.revocation import Revocations
from services.status.monitoring.health import degraded
from services.status.monitoring.monitor import Monitor
from services.status.preparation import Preparation
from services.status.projector import Projector
from services.status.replay.auditor import Auditor
from services.status.replay.refold import Refolder
from services.status.settings import StatusSettings
from services.status.store.name_indexer import NameIndexer
from services.status.store.store import FileStore
from services.status.tickets import Tickets
from services.status.webhooks.courier import Courier
from services.status.webhooks.deliveries import Deliveries
from services.status.webhooks.registry import Webhooks
from shared.auth.apikeys import ApiKeys
from shared.auth.auth import make_authenticator
from shared.auth.sealed import seal_of
from shared.background.clock_probe import CLOCK_PROBE, clock_probe
from shared.background.loops import Loop
from shared.background.supervision import Run, Supervisor, after
from shared.blobs.blobs import open_blob_store
from shared.events.reading import parse_once
from shared.http import problems
from shared.http.head_method import HeadAsGet
from shared.http.outbound import Outbound
from shared.kafka.publishing import Publisher
from shared.telemetry import health_router

COMMAND_TIMEOUT = 5.0
"""Seconds to wait for Kafka before a command fails with 503. Uploads wait as long."""

WEBHOOK_TIMEOUT = 10.0
"""Seconds that a webhook receiver may take to answer."""


def create_app(settings: StatusSettings) -> FastAPI:
    """Create the status service. Nothing connects before the application starts."""
    supervisor = Supervisor(kill=settings.chaos_kill_loop)
    store = FileStore(settings)
    hub = Hub(
        store,
        max_subscribers=settings.max_subscribers,
        max_per_client=settings.max_subscribers_per_client,
    )
    fanout = FanOut(settings, hub)
    monitor = Monitor(settings, store)
    hub.unstored = lambda: monitor.unstored
    hub.on_published = monitor.queue_stats.follow
    # A command that failed with 503 must not be published later. Uploads follow the same rule.
    publisher = Publisher(settings, client_id="status", publish_timeout=COMMAND_TIMEOUT)
    auditor = Auditor(settings, store, monitor.queue_stats, Refolder(settings, store, publisher))
    projector = Projector(store, publisher, parse=parse_once)

    @asynccontextmanager
    async def lifespan(app: DeferringApp) -> AsyncIterator[AppState]:
        runs = Runs(hub, publisher)
        cancellations = Cancellations(hub, publisher)
        deletions = Deletions(hub, publisher)
        blobs = open_blob_store(settings)
        hub.outbox = uploads_waiting = WaitingUploads(blobs)
        seal = seal_of(settings)
        keys = ApiKeys(blobs, seal=seal)
        webhooks = Webhooks(blobs, seal=seal)
        outbound = Outbound(private=settings.webhooks_private, seconds=WEBHOOK_TIMEOUT)
        courier = Courier(
            settings=settings,
            hub=hub,
            webhooks=webhooks,
            deliveries=Deliveries(store),
            outbound=outbound,
            publisher=publisher,
        )
        preparation = Preparation(settings, store, publisher, hub.seal)
        projecting = (loops.PROJECTOR, after(preparation.done, partial(projector.run, settings)))
        heartbeats = replace(loops.HEARTBEATS, late_after=max(60.0, 3 * settings.heartbeat))
        others: list[tuple[Loop, Run]] = [
            (loops.FANOUT, fanout.run),
            (loops.RECALL, hub.recall),
            (heartbeats, partial(hub.beat, settings.heartbeat)),
            (loops.MONITOR, monitor.run),
            (loops.AUDITOR, auditor.run),
            (loops.ERASER, Eraser(store, blobs, publisher).run),
            (loops.REVOCATIONS, Revocations(hub, keys).run),
            (loops.SETTLER, Settler(settings, store, hub, cancellations).run),
            (loops.OUTBOX_COMMANDS, partial(uploads_waiting.run, publisher)),
            (loops.NAME_INDEX, NameIndexer(store).run),
            (loops.WEBHOOKS, courier.run),
        ]
        if settings.retention:
            others.append((loops.RETENTION, Retention(settings.retention, store, deletions).run))
        # Until the projector has its partitions, a list may lack changes that no stream delivers
        # any more.
        waiting = [(loop, after(projector.started, run)) for loop, run in others]
        async with (
            supervisor.running(
                (loops.COMMANDS, preparation.run),
                (CLOCK_PROBE, after(preparation.done, clock_probe(publisher))),
            ),
            supervisor.running(projecting, *waiting),
        ):
            yield AppState(
                settings=settings,
                authenticator=make_authenticator(settings, keys, trusted=settings.trusted_pages),
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
                    waiting=uploads_waiting,
                ),
                letters=DeadLetters(settings),
                webhooks=webhooks,
                outbound=outbound,
                tickets=Tickets(store, keys),
                monitor=monitor,
                auditor=auditor,
                supervisor=supervisor,
                cors=app.cors,
            )
        await outbound.close()
        store.close()

    app = DeferringApp(
        title="Waybill status",
        version=version("waybill"),
        summary="What is happening to my file?",
        lifespan=lifespan,
    )
    app.state.hub = hub
    app.state.supervisor = supervisor
    app.cors = settings.cors_policy
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
    app.include_router(
        health_router(
            lambda: f"waiting for {hub.behind}" if hub.behind else supervisor.unavailable_reason,
            degraded=lambda: degraded(supervisor, hub, monitor),
        )
    )
    dashboard.mount(app, settings.upload_url)
    return app

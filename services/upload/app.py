"""The upload service's application."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial

from fastapi import FastAPI

from services.upload import loops
from services.upload.api import direct, fetching, tus
from services.upload.api import uploads as api
from services.upload.api.fast_path import FastPathUploads
from services.upload.api.uploads import AppState
from services.upload.cleanup.orphans import Orphans
from services.upload.cleanup.sweep import sweep_all, sweep_staged
from services.upload.direct_uploads import DirectUploads
from services.upload.intake.admission import UploadAdmission
from services.upload.intake.duplicates import Duplicates
from services.upload.intake.idempotency import IdempotencyKeys
from services.upload.intake.intake import Intake
from services.upload.intake.outbox import Outbox
from services.upload.intake.outcome_follower import OutcomeFollower
from services.upload.kafka_connection import KafkaConnection
from services.upload.quotas.quota_sync import QuotaSync
from services.upload.quotas.usage import Usage
from services.upload.resumable.resumable import Resumable
from services.upload.settings import UploadSettings
from shared.auth.apikeys import ApiKeys
from shared.auth.auth import make_authenticator
from shared.auth.sealed import seal_of
from shared.background.clock_probe import CLOCK_PROBE, clock_probe
from shared.background.loops import Loop
from shared.background.supervision import Run, Supervisor
from shared.blobs.blobs import open_blob_store
from shared.blobs.signing import open_signer
from shared.http import problems
from shared.http.cors import EXPOSED, Cors
from shared.http.head_method import HeadAsGet
from shared.http.outbound import Outbound
from shared.kafka.publishing import Publisher
from shared.telemetry import health_router


def create_app(settings: UploadSettings) -> FastAPI:
    """Create the upload service's application, which connects only when its lifespan starts."""
    # Events that Kafka does not acknowledge in time go to the outbox, so the producer must not
    # retry them later. A client waits for each event: batching did not raise throughput.
    publisher = Publisher(
        settings,
        client_id="upload",
        publish_timeout=settings.publish_timeout,
        burst_linger=0.0,
    )
    link = KafkaConnection(publisher, settings.kafka)
    supervisor = Supervisor(kill=settings.chaos_kill_loop)
    exposed = tuple(dict.fromkeys((*EXPOSED, *tus.ANSWER_HEADERS)))
    cors = replace(settings.cors_policy, exposed=exposed)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[AppState]:
        blobs = open_blob_store(settings)
        app.state.outbox = outbox = Outbox(
            settings=settings, blobs=blobs, publisher=publisher, link=link
        )
        keys = IdempotencyKeys(blobs)
        duplicates = Duplicates(settings=settings, blobs=blobs, link=link)
        outcome_follower = OutcomeFollower(settings, duplicates, publisher)
        intake = Intake(
            settings=settings, blobs=blobs, outbox=outbox, keys=keys, duplicates=duplicates
        )
        api_keys = ApiKeys(blobs, seal=seal_of(settings))
        authenticator = make_authenticator(settings, api_keys, trusted=settings.trusted_pages)
        resumable = Resumable(settings=settings, blobs=blobs, intake=intake)
        direct_uploads = DirectUploads(
            settings=settings,
            blobs=blobs,
            signer=open_signer(settings, endpoint=settings.direct_endpoint),
            intake=intake,
        )
        sweeps: dict[str, Callable[[], Awaitable[int]]] = {
            "idempotency keys": keys.sweep,
            "resumable uploads": resumable.sweep,
            "direct uploads": direct_uploads.sweep,
            "incomplete files": partial(sweep_staged, blobs),
            "files without an event": Orphans(settings, blobs).sweep,
            "empty packs": blobs.sweep_packs,
        }
        usage = Usage(settings)
        quota_sync = QuotaSync(settings=settings, usage=usage, publisher=publisher, link=link)
        outbound = Outbound(private=settings.fetch_private, seconds=settings.fetch_timeout)
        background: list[tuple[Loop, Run]] = [
            (loops.OUTBOX, outbox.relay),
            (loops.SWEEPS, partial(sweep_all, sweeps)),
        ]
        if settings.deduplicate != "off":
            background.append((loops.OUTCOMES, outcome_follower.follow))
        if usage.is_limited:
            background.append((loops.USAGE_REPORTS, quota_sync.publish_reports))
            background.append((loops.USAGE_LISTENER, quota_sync.consume_reports))
        async with (
            blobs.blob_writer(supervisor),
            supervisor.running((loops.KAFKA, link.run), (CLOCK_PROBE, clock_probe(publisher))),
            quota_sync.final_report() if usage.is_limited else nullcontext(),
            supervisor.running(*background),
        ):
            admission = UploadAdmission(settings=settings, intake=intake, usage=usage)
            yield AppState(
                authenticator=authenticator,
                settings=settings,
                admission=admission,
                resumable=resumable,
                direct_uploads=direct_uploads,
                outbound=outbound,
                status_url=settings.status_url.rstrip("/"),
                cors=cors,
            )

    app = FastPathUploads(title="Waybill upload", lifespan=lifespan)
    app.state.supervisor = supervisor
    app.add_middleware(Cors, policy=cors)
    app.add_middleware(HeadAsGet)
    problems.install(app)
    app.include_router(api.router)
    app.include_router(tus.router)
    app.include_router(fetching.router)
    app.include_router(direct.router)
    app.include_router(
        health_router(
            lambda: app.state.outbox.unavailable_reason or supervisor.unavailable_reason,
            lambda: app.state.outbox.note,
            lambda: supervisor.degraded,
        )
    )
    return app

"""Statistics over all files: `GET /api/stats`."""

import logging
from datetime import datetime

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from services.status.api import examples
from services.status.api.dependencies import (
    HubOf,
    MonitorOf,
    Readable,
    StoreOf,
    SupervisorOf,
    reader,
    up_to_date,
)
from services.status.monitoring.health import degraded
from services.status.monitoring.monitor import Lags
from services.status.monitoring.queue_stats import QueueStats, Rates, Sample
from services.status.projection.projection import FileState
from services.status.store.access import Visibility
from services.status.store.store import FileStore
from shared.errors import MongoUnavailableError
from shared.events.events import Timestamp, file_id_age, utc_now
from shared.http.problems import ERROR_RESPONSES

log = logging.getLogger(__name__)

router = APIRouter(
    prefix="/api",
    tags=["files"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader), Depends(up_to_date)],
)


class Queue(BaseModel):
    """The files that wait for their turn."""

    length: int
    expected_seconds: float | None = Field(
        description="Seconds until a new file would start; null if no files are starting."
    )


class Oldest(BaseModel):
    """The file of a status with the earliest upload."""

    file_id: str
    age_seconds: float | None = Field(description="Seconds since its upload.")


class Stats(BaseModel):
    """Counts, rates and ages, at most one second old, or older with millions of files.

    Unknown values are null, and `degraded` gives the reasons.
    """

    time: Timestamp
    files: dict[FileState, int] | None
    queue: Queue | None
    rates: Rates | None
    oldest: dict[FileState, Oldest] | None
    lag: Lags | None = Field(
        description="Records that each consumer group has yet to finish, by topic."
    )
    degraded: list[str] = Field(description="Sentences about what does not work at the moment.")


@router.get("/stats", responses=examples.answer(examples.STATS))
async def read_stats(
    monitor: MonitorOf, store: StoreOf, hub: HubOf, supervisor: SupervisorOf, readable: Readable
) -> Stats:
    """Return counts by status, throughput, and the lag of each consumer group.

    Only files that the user may see are counted. For users who may not see all files, the queue is
    their own waiting files. Rates and lags are then null, since they would reveal how much others
    upload.
    """
    now = utc_now()
    queue_stats = monitor.queue_stats
    sample = queue_stats.latest(now.timestamp())
    files, oldest = await _files_and_oldest(store, readable, now, sample)
    return Stats(
        time=now,
        files=files,
        queue=_queue(queue_stats, sample, None if readable.everything else files),
        rates=queue_stats.rates() if sample and readable.everything else None,
        oldest=oldest,
        lag=monitor.lags if readable.everything else None,
        degraded=degraded(supervisor, hub, monitor),
    )


def _queue(
    queue_stats: QueueStats, sample: Sample | None, own: dict[FileState, int] | None
) -> Queue | None:
    """Return the queue of all files, or of those that the user may see."""
    if sample is None:
        return None
    length = sample.queued if own is None else own.get(FileState.PENDING, 0)
    return Queue(length=length, expected_seconds=queue_stats.expected(sample.queued + 1))


async def _files_and_oldest(
    store: FileStore, readable: Visibility, now: datetime, sample: Sample | None
) -> tuple[dict[FileState, int] | None, dict[FileState, Oldest] | None]:
    """Return the file counts and the oldest files; None for what MongoDB cannot provide."""
    files = dict(sample.files) if sample is not None and readable.everything else None
    try:
        if files is None and not readable.everything:
            files = await store.counts(readable)
        found = {
            state: await store.oldest(state, readable)
            for state in (FileState.PENDING, FileState.PROCESSING)
        }
    except MongoUnavailableError as error:
        log.warning("statistics are incomplete without MongoDB: %s", error)
        return files, None
    return files, {
        state: Oldest(file_id=file.file_id, age_seconds=file_id_age(file.file_id, now))
        for state, file in found.items()
        if file is not None
    }

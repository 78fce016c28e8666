"""How all files are doing: `GET /api/stats`."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from services.status.api import examples
from services.status.api.dependencies import MonitorOf, Readable, StoreOf, reader, up_to_date
from services.status.monitor import Lags
from services.status.projection import State
from services.status.traffic import Rates
from shared.errors import CatchingUpError
from shared.events import Timestamp, file_id_age, utc_now
from shared.problems import ERROR_RESPONSES

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
        description="Until a file that comes now is begun; null if nothing moves."
    )


class Oldest(BaseModel):
    """The file of a status that was uploaded before all others."""

    file_id: str
    age_seconds: float | None = Field(description="Since its upload.")


class Stats(BaseModel):
    """Counts, rates and ages, a second old at most, or older where there are millions of files."""

    time: Timestamp
    files: dict[State, int]
    queue: Queue
    rates: Rates
    oldest: dict[State, Oldest]
    lag: Lags = Field(description="Records that each group has yet to finish, by topic.")


@router.get("/stats", responses=examples.answer(examples.STATS))
async def read_stats(monitor: MonitorOf, store: StoreOf, readable: Readable) -> Stats:
    """How many files have each status, how fast they come and go, and who is behind.

    The files are those that may be seen; queue, rates and lags are of all files, whoever asks.
    """
    now = utc_now()
    look = monitor.traffic.latest(now.timestamp())
    if look is None:
        raise CatchingUpError("This pod has not counted the files yet, or not for a while.")
    files = look.files if readable.everything else await store.counts(readable)
    oldest = {
        state: await store.oldest(state, readable) for state in (State.PENDING, State.PROCESSING)
    }
    return Stats(
        time=now,
        files=dict(files),
        queue=Queue(length=look.queued, expected_seconds=monitor.traffic.expected(look.queued + 1)),
        rates=monitor.traffic.rates(),
        oldest={
            state: Oldest(file_id=file.file_id, age_seconds=file_id_age(file.file_id, now))
            for state, file in oldest.items()
            if file is not None
        },
        lag=monitor.lags,
    )

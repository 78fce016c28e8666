"""The files of one upload request: `GET /api/batches/{id}`."""

import asyncio
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from services.status.api import examples
from services.status.api.dependencies import HubOf, Readable, StoreOf, reader, up_to_date
from services.status.api.files import MAX_ID, YOUNG_WAIT, is_late, is_young
from services.status.live.hub import Hub
from services.status.projection.projection import FileState
from services.status.store.access import Visibility
from services.status.store.query import Query
from services.status.store.store import FileStore
from shared.errors import CatchingUpError, UnavailableError, UnknownBatchError
from shared.events.ids import CanonicalId
from shared.http.problems import ERROR_RESPONSES
from shared.outbox import is_file_id

router = APIRouter(
    prefix="/api/batches",
    tags=["files"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader), Depends(up_to_date)],
)

LOOKUP_INTERVAL = 0.1
"""Seconds between two lookups of a batch that was just created."""


class Batch(BaseModel):
    """Progress of a batch. Deleted files are not counted."""

    batch_id: str
    total: int
    files: dict[FileState, int] = Field(description="Number of files of each status.")
    percent: int = Field(description="Percentage of files that have finished.")
    finished: bool
    files_url: str = Field(description="Lists the files of the batch.")
    stream_url: str = Field(description="Follows the files live, as Server-Sent Events.")


@router.get("/{batch_id}", responses=examples.answer(examples.BATCH))
async def read_batch(
    batch_id: Annotated[
        CanonicalId, Path(max_length=MAX_ID, description="The id that the upload returned.")
    ],
    store: StoreOf,
    hub: HubOf,
    readable: Readable,
) -> Batch:
    """Return the number of files of each status in a batch, and its overall progress."""
    counts = await _counts(store, hub, batch_id, readable)
    total = sum(counts.values())
    ended = sum(count for state, count in counts.items() if state.is_terminal)
    filtered = f"?batch_id={quote(batch_id, safe='')}"
    return Batch(
        batch_id=batch_id,
        total=total,
        files=counts,
        percent=100 * ended // total,
        finished=ended == total,
        files_url=f"/api/files{filtered}",
        stream_url=f"/api/stream{filtered}",
    )


async def _counts(
    store: FileStore, hub: Hub, batch_id: str, readable: Visibility
) -> dict[FileState, int]:
    """Return the counts of a batch; wait for one that was just created.

    Raises:
        UnknownBatchError: the batch has no file that the user may see.
        CatchingUpError: the files may still be in the outbox, or this pod lags.
        UnavailableError: MongoDB is unavailable, and this pod does not hold the whole batch.
    """
    query = Query(batch_id=batch_id, visible_to=readable)
    clock = asyncio.get_running_loop().time
    deadline = clock() + (YOUNG_WAIT if is_young(batch_id) else 0)
    while True:
        failure: UnavailableError | None = None
        try:
            counts = await store.counts_of(query)
            if any(counts.values()):
                return counts
        except UnavailableError as error:
            failure = error
        # The projector may lag behind this pod's own tail. Without MongoDB, part of a batch must
        # not be reported as the whole.
        held = hub.batch(batch_id, readable)
        if held and (failure is None or hub.has_whole(batch_id)):
            return {state: sum(each.status is state for each in held) for state in FileState}
        if clock() > deadline:
            if failure is not None:
                raise failure
            is_relayed = hub.outbox is not None and hub.outbox.is_active and is_file_id(batch_id)
            if is_relayed or is_late(hub, batch_id):
                raise CatchingUpError(
                    f"This pod does not know yet whether batch {batch_id!r} exists; retry."
                )
            raise UnknownBatchError(
                f"No batch has the id {batch_id!r}; check the id that the upload returned."
            )
        await asyncio.sleep(LOOKUP_INTERVAL)

"""What is known of one file: what stands below `/api/files/{id}`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.status.api import examples
from services.status.api.dependencies import (
    BlobsOf,
    HubOf,
    Readable,
    reader,
    up_to_date,
)
from services.status.api.downloads import download
from services.status.live.awaiting import first_known, next_change
from services.status.live.hub import Hub
from services.status.live.update import Update
from services.status.projection.history import HistoryLine, with_durations
from services.status.projection.projection import Status
from services.status.store.access import Visibility
from shared.errors import (
    CatchingUpError,
    DeletedFileError,
    NoResultYetError,
    UnknownArtifactError,
    UnknownFileError,
)
from shared.events.events import EventType, file_id_age, utc_now
from shared.events.facts import Result
from shared.events.ids import CanonicalId
from shared.http.problems import ERROR_RESPONSES
from shared.outbox import is_file_id

router = APIRouter(
    prefix="/api/files",
    tags=["files"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader), Depends(up_to_date)],
)

YOUNG = 30.0
"""Seconds during which an unknown id may be one just handed out, its event still on the way."""

YOUNG_WAIT = 3.0
"""Seconds to wait for the event of a young id before it is answered 404."""

RELAYED_WAIT = 0.5
"""Seconds to wait for the event of an older id while the outbox is in use: it may just have gone
from there to Kafka, whose tail brings it within milliseconds."""

MAX_BEHIND = 5.0
"""Seconds for which a pod may not have read all there is before it calls no young id unknown."""

MAX_ID = 64
"""Characters of an id: those that we give have 36."""

FileId = Annotated[
    CanonicalId, Path(max_length=MAX_ID, description="The id that the upload answered.")
]


class History(BaseModel):
    """What happened to a file, in order."""

    items: tuple[HistoryLine, ...]
    complete: bool = Field(
        description="Whether it begins with the upload; of a long history the latest lines stay."
    )


async def find(hub: Hub, file_id: str, visible_to: Visibility) -> Update:
    """The current state of a file; one that may be on its way here is waited for.

    Raises:
        UnknownFileError: no file that may be known of has this id.
        DeletedFileError: the file was deleted.
        CatchingUpError: this pod lags by more than the age of the id: it cannot know yet.
        UnavailableError: MongoDB does not answer, and the tail has not brought the file.
    """
    update = hub.held(file_id, visible_to)
    if update is None and is_young(file_id):
        update = await first_known(hub, file_id, visible_to, seconds=YOUNG_WAIT)
    elif update is None:
        update = await hub.current(file_id, visible_to)
    if update is None and _may_be_relayed(hub, file_id):
        update = await next_change(
            hub, file_id, known=None, seconds=RELAYED_WAIT, visible_to=visible_to
        )
    if update is None:
        if is_late(hub, file_id):
            raise CatchingUpError(f"This pod cannot know yet whether {file_id!r} is a file.")
        raise unknown(file_id)
    return existing(update)


def is_late(hub: Hub, handed_out: str) -> bool:
    """Whether this pod lags by more than the age of an id, and so cannot know it yet."""
    behind = hub.seconds_behind
    return behind > MAX_BEHIND and is_young(handed_out, YOUNG + behind)


def _may_be_relayed(hub: Hub, file_id: str) -> bool:
    """Whether a file may just have gone from the outbox to Kafka; a young one was waited for."""
    is_active = hub.outbox is not None and hub.outbox.is_active
    return is_active and is_file_id(file_id) and not is_young(file_id)


async def find_own(hub: Hub, file_id: str, visible_to: Visibility) -> Status:
    """The current state of a file with which the asker may do more than read it.

    Raises:
        UnknownFileError, DeletedFileError: as of `find`.
        ForbiddenError: it is only shared with them.
    """
    status = (await find(hub, file_id, visible_to)).status
    visible_to.require_own(status)
    return status


def unknown(file_id: str) -> UnknownFileError:
    """Says that no file that may be known of has an id."""
    return UnknownFileError(f"No file has the id {file_id!r}; check the id that the upload gave.")


def is_young(handed_out: str, seconds: float = YOUNG) -> bool:
    """Whether an id may be one just handed out, of which nobody can know yet."""
    age = file_id_age(handed_out, utc_now())
    return age is not None and age < seconds


def status_location(file_id: str) -> str:
    """Where the status of a file is asked for."""
    return f"/api/files/{file_id}/process/status"


@router.get("/{file_id}/result")
async def read_result(file_id: FileId, hub: HubOf, readable: Readable) -> Result:
    """What the work found; 409 as long as the file is not completed."""
    return _result((await find(hub, file_id, readable)).status)


@router.get("/{file_id}/artifacts/{name:path}", response_class=StreamingResponse)
async def read_artifact(
    request: Request, file_id: FileId, name: str, hub: HubOf, blobs: BlobsOf, readable: Readable
) -> Response:
    """Download one artifact of the result, whole or in part (`Range`)."""
    result = _result((await find(hub, file_id, readable)).status)
    artifact = next((each for each in result.artifacts if each.name == name), None)
    if artifact is None:
        names = ", ".join(each.name for each in result.artifacts) or "none"
        raise UnknownArtifactError(f"The file has no artifact {name!r}; it has: {names}.")
    return await download(
        request,
        blobs,
        key=f"{result.prefix}/{name}",
        name=name,
        content_type=artifact.content_type,
    )


@router.get("/{file_id}/source", response_class=StreamingResponse)
async def read_source(
    request: Request, file_id: FileId, hub: HubOf, blobs: BlobsOf, readable: Readable
) -> Response:
    """Download the file as it was uploaded, whole or in part (`Range`)."""
    status = (await find(hub, file_id, readable)).status
    return await download(
        request,
        blobs,
        key=status.source,
        name=status.name or file_id,
        content_type=_source_type(status),
        sha256=status.sha256,
        modified=status.created_at,
    )


def _source_type(status: Status) -> str:
    """The type of the file, with the encoding of a text as far as it is known."""
    content_type = status.content_type or "application/octet-stream"
    return f"{content_type}; charset={status.charset}" if status.charset else content_type


@router.get("/{file_id}/events", responses=examples.answer(examples.EVENTS))
async def read_events(file_id: FileId, hub: HubOf, readable: Readable) -> History:
    """What happened to a file, in order: when, on which pod, and how long it waited and took.

    The progress in between is not kept.
    """
    history = (await find(hub, file_id, readable)).status.history
    return History(
        items=tuple(with_durations(history)),
        complete=any(entry.type is EventType.UPLOADED for entry in history[:1]),
    )


def existing(update: Update) -> Update:
    """The same state of a file.

    Raises:
        DeletedFileError: the file was deleted.
    """
    deleted_at = update.status.deleted_at
    if deleted_at is not None:
        when = f"{deleted_at:%Y-%m-%d %H:%M:%S} UTC"
        raise DeletedFileError(f"The file {update.status.file_id} was deleted on {when}.")
    return update


def _result(status: Status) -> Result:
    if status.result is None:
        raise NoResultYetError(f"The file is {status.status}: it has no result.")
    return status.result

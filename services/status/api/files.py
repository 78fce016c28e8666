"""Endpoints of one file, under `/api/files/{id}`."""

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
"""Age in seconds below which an unknown id may have just been issued, with its event still in
transit."""

YOUNG_WAIT = 3.0
"""Seconds to wait for the event of a young id before the API answers 404."""

RELAYED_WAIT = 0.5
"""Seconds to wait for the event of an older id while the outbox is in use. The event may just have
been published, and the tail delivers it within milliseconds."""

MAX_BEHIND = 5.0
"""Seconds that a pod may lag and still report a young id as unknown."""

MAX_ID = 64
"""Maximum characters of an id. Issued ids have 36."""

FileId = Annotated[
    CanonicalId, Path(max_length=MAX_ID, description="The id that the upload returned.")
]


class History(BaseModel):
    """The events of a file, in order."""

    items: tuple[HistoryLine, ...]
    complete: bool = Field(
        description="True if it begins with the upload. Long histories keep only the latest lines."
    )


async def find(hub: Hub, file_id: str, visible_to: Visibility) -> Update:
    """Return the current state of a file; wait briefly if its event may be in transit.

    Raises:
        UnknownFileError: no file that the user may see has this id.
        DeletedFileError: the file was deleted.
        CatchingUpError: this pod lags by more than the age of the id.
        UnavailableError: MongoDB is unavailable, and the tail has not delivered the file.
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
            raise CatchingUpError(
                f"This pod does not know yet whether file {file_id!r} exists; retry."
            )
        raise unknown(file_id)
    return existing(update)


def is_late(hub: Hub, issued_id: str) -> bool:
    """Return True if this pod lags by more than the age of an id."""
    behind = hub.seconds_behind
    return behind > MAX_BEHIND and is_young(issued_id, YOUNG + behind)


def _may_be_relayed(hub: Hub, file_id: str) -> bool:
    """Return True if a file may just have moved from the outbox to Kafka.

    Young ids are excluded, since `find` has already waited for them.
    """
    is_active = hub.outbox is not None and hub.outbox.is_active
    return is_active and is_file_id(file_id) and not is_young(file_id)


async def find_own(hub: Hub, file_id: str, visible_to: Visibility) -> Status:
    """Return the current state of a file that the user may change.

    Raises:
        UnknownFileError, DeletedFileError: as for `find`.
        ForbiddenError: the file is only shared with the user.
    """
    status = (await find(hub, file_id, visible_to)).status
    visible_to.require_own(status)
    return status


def unknown(file_id: str) -> UnknownFileError:
    """Return the error for an id without a file that the user may see."""
    return UnknownFileError(
        f"No file has the id {file_id!r}; check the id that the upload returned."
    )


def is_young(issued_id: str, seconds: float = YOUNG) -> bool:
    """Return True if an id may have just been issued, so that its event may be in transit."""
    age = file_id_age(issued_id, utc_now())
    return age is not None and age < seconds


def status_location(file_id: str) -> str:
    """Return the path of a file's status."""
    return f"/api/files/{file_id}/process/status"


@router.get("/{file_id}/result")
async def read_result(file_id: FileId, hub: HubOf, readable: Readable) -> Result:
    """Return the result of the work; 409 until the file is completed."""
    return _result((await find(hub, file_id, readable)).status)


@router.get("/{file_id}/artifacts/{name:path}", response_class=StreamingResponse)
async def read_artifact(
    request: Request, file_id: FileId, name: str, hub: HubOf, blobs: BlobsOf, readable: Readable
) -> Response:
    """Download one artifact of the result, complete or in part (`Range`)."""
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
    """Download the uploaded file, complete or in part (`Range`)."""
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
    """Return the media type of the file, with the charset of a text if it is known."""
    content_type = status.content_type or "application/octet-stream"
    return f"{content_type}; charset={status.charset}" if status.charset else content_type


@router.get("/{file_id}/events", responses=examples.answer(examples.EVENTS))
async def read_events(file_id: FileId, hub: HubOf, readable: Readable) -> History:
    """Return a file's events in order, with times, pods, waiting times and durations.

    Progress events are not kept.
    """
    history = (await find(hub, file_id, readable)).status.history
    return History(
        items=tuple(with_durations(history)),
        complete=any(entry.type is EventType.UPLOADED for entry in history[:1]),
    )


def existing(update: Update) -> Update:
    """Return the same state, if the file still exists.

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
        raise NoResultYetError(f"The file is {status.status}; only completed files have a result.")
    return status.result

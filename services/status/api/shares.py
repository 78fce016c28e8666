"""With whom a file is shared: `/api/files/{id}/shares`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from services.status.api.commands import Reason
from services.status.api.dependencies import (
    Commandable,
    CommandsOf,
    HubOf,
    Readable,
    commander,
    own_origin,
    reader,
    up_to_date,
)
from services.status.api.files import FileId, find_own
from services.status.projection.projection import Status
from services.status.projection.shares import readers
from shared.auth.auth import MAX_NAME, Asker
from shared.http.problems import ERROR_RESPONSES

reading = APIRouter(
    prefix="/api/files",
    tags=["sharing"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader), Depends(up_to_date)],
)
commanding = APIRouter(
    prefix="/api/files",
    tags=["sharing"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(own_origin), Depends(commander), Depends(up_to_date)],
)


class SharedWith(BaseModel):
    """Somebody who may read the file."""

    subject: str = Field(description="As their token names them.")


class ShareList(BaseModel):
    """Who may read the file beside its owner, and those who look after the files of the tenant."""

    file_id: str
    items: list[SharedWith]


Subject = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="As their token names them.",
    ),
]


@reading.get("/{file_id}/shares")
async def list_shares(file_id: FileId, hub: HubOf, readable: Readable) -> ShareList:
    """With whom a file is shared; those with whom it is are not told."""
    status = await find_own(hub, file_id, readable)
    return _told(status)


@commanding.put("/{file_id}/shares/{subject:path}", status_code=202)
async def share(
    file_id: FileId,
    subject: Subject,
    hub: HubOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
    reason: Reason = "asked for",
) -> ShareList:
    """Let somebody else of the file's tenant read it, follow it, and fetch what came of it.

    They may do nothing with it, nor share it on. The answer 202 means that it is in Kafka.
    """
    status = await find_own(hub, file_id, commandable)
    return _told(await commands.share(status, asker, reader=subject, reason=reason))


@commanding.delete("/{file_id}/shares/{subject:path}", status_code=202)
async def unshare(
    file_id: FileId,
    subject: Subject,
    hub: HubOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
    reason: Reason = "asked for",
) -> ShareList:
    """Let them read it no longer: to them it is then like a file that does not exist.

    Their streams are told that it was withdrawn, and nothing of it afterwards, on whichever pod.
    """
    status = await find_own(hub, file_id, commandable)
    return _told(await commands.unshare(status, asker, reader=subject, reason=reason))


def _told(status: Status) -> ShareList:
    items = [SharedWith(subject=name) for name in readers(status.shares)]
    return ShareList(file_id=status.file_id, items=items)

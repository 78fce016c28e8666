"""The readers of a file: `/api/files/{id}/shares`."""

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
    """A user who may read the file."""

    subject: str = Field(description="The user's name, as in their token.")


class ShareList(BaseModel):
    """The readers of a file, beside its owner and the operators of its tenant."""

    file_id: str
    items: list[SharedWith]


Subject = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="The user's name, as in their token.",
    ),
]


@reading.get("/{file_id}/shares")
async def list_shares(file_id: FileId, hub: HubOf, readable: Readable) -> ShareList:
    """List the users with whom a file is shared. Readers cannot see this list."""
    status = await find_own(hub, file_id, readable)
    return _share_list(status)


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
    """Allow another user of the file's tenant to read it, follow it and download its results.

    Readers can neither change the file nor share it. The status 202 means that the share is in
    Kafka.
    """
    status = await find_own(hub, file_id, commandable)
    return _share_list(await commands.share(status, asker, reader=subject, reason=reason))


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
    """Revoke a user's access: for them, the file then does not exist.

    Their streams, on any pod, receive a `withdrawn` message and nothing about the file afterwards.
    """
    status = await find_own(hub, file_id, commandable)
    return _share_list(await commands.unshare(status, asker, reader=subject, reason=reason))


def _share_list(status: Status) -> ShareList:
    items = [SharedWith(subject=name) for name in readers(status.shares)]
    return ShareList(file_id=status.file_id, items=items)

"""Commands for one file, under `/api/files/{id}`.

A command is stored in Kafka before the API answers. Repeating a command is safe: the event has the
same id.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.status.api.dependencies import (
    Commandable,
    CommandsOf,
    HubOf,
    commander,
    own_origin,
    up_to_date,
)
from services.status.api.files import FileId, find, find_own, status_location
from services.status.live.update import Update
from services.status.monitoring.expectation import SOONEST
from services.status.projection.projection import Status
from shared.auth.auth import Asker
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(
    prefix="/api/files",
    tags=["commands"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(own_origin), Depends(commander), Depends(up_to_date)],
)

MAX_REASON = 200
"""Characters of a reason: one sentence, shown in the file's history."""

ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
"""Text without control characters."""

Reason = Annotated[
    str,
    Query(
        max_length=MAX_REASON,
        min_length=1,
        pattern=ONE_LINE,
        description="Reason, shown in the file's history.",
    ),
]


@router.post("/{file_id}/cancel", status_code=202, response_model=Status)
async def cancel(
    file_id: FileId,
    hub: HubOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
    reason: Reason = "asked for",
) -> Response:
    """Cancel the work on a file; 409 if it has already finished.

    The status 202 means that the request is in Kafka. A pending file is `cancelled` immediately,
    whether or not a processor is running. A file that is being processed has the phase `cancelling`
    until its processor has stopped the work, or the work finishes first.
    """
    status = await find_own(hub, file_id, commandable)
    return _accepted(Update(await commands.cancel(status, asker, reason=reason)))


@router.post("/{file_id}/retry", status_code=202, response_model=Status)
async def retry(
    file_id: FileId,
    hub: HubOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
    force: Annotated[bool, Query(description="Also process a completed file again.")] = False,
    reason: Reason = "asked for",
) -> Response:
    """Start a new run of a file that failed or was cancelled.

    The status 202 means that the new run is in Kafka. The history is kept.
    """
    status = await find_own(hub, file_id, commandable)
    await commands.retry(status, asker, force=force, reason=reason)
    return _accepted(await find(hub, file_id, commandable))


@router.delete("/{file_id}", status_code=202, response_model=Status)
async def delete(
    file_id: FileId,
    hub: HubOf,
    commandable: Commandable,
    commands: CommandsOf,
    asker: Asker,
    reason: Reason = "asked for",
) -> Response:
    """Stop the work on a file and delete it with its results and personal data; afterwards 410.

    The status 202 means that the deletion is in Kafka and cannot be undone. Stored data is erased
    within seconds. 409 if the file has the label `legal_hold`.
    """
    status = await find_own(hub, file_id, commandable)
    left = await commands.delete(status, asker, reason=reason)
    return Response(Update(left).full, 202, media_type="application/json")


def _accepted(update: Update) -> Response:
    headers = {"Location": status_location(update.status.file_id), "Retry-After": str(SOONEST)}
    return Response(update.full, 202, media_type="application/json", headers=headers)

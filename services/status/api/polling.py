"""The status of a file: once, at its next change, or live.

These are by far the most frequent requests, and nearly all have no parameters.
"""

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response, Security
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from services.status.api.dependencies import (
    HubOf,
    MonitorOf,
    Readable,
    SettingsOf,
    reader,
    up_to_date,
)
from services.status.api.documents import (
    CONDITIONAL,
    DOCUMENT_MEMBERS,
    DocumentFields,
    IfNoneMatch,
    StatusDocument,
    is_known,
    parse_fields,
    status_answer,
)
from services.status.api.files import MAX_ID, FileId, existing, find, unknown
from services.status.api.sse import EventStream, status_frames
from services.status.api.tickets import Following, documented, has_ticket
from services.status.live.awaiting import next_change
from services.status.live.hub import Hub
from services.status.live.update import Update
from services.status.monitoring.monitor import Monitor
from services.status.monitoring.queue_stats import QueuePlace
from services.status.store.access import Visibility
from shared.auth.auth import authenticated
from shared.auth.principal import Principal
from shared.events.events import utc_now
from shared.events.ids import canonical_id
from shared.http.head_method import is_head
from shared.http.problems import ERROR_RESPONSES


class PlainFirst(APIRoute):
    """Handles requests without parameters itself.

    FastAPI would resolve every possible parameter and dependency, which takes longer than the
    response itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        in_full = super().get_route_handler()

        async def handle(request: Request) -> Response:
            file_id = canonical_id(request.path_params["file_id"])
            if request.scope["query_string"] or len(file_id) > MAX_ID or _wants_stream(request):
                return await in_full(request)
            readable = await reader(await authenticated(request))
            await up_to_date(request)
            current = await find(request.state.hub, file_id, readable)
            place = _place(request.state.monitor, request.state.hub, current, readable)
            return status_answer(current, place, request.headers.get("if-none-match"))

        return handle


router = APIRouter(
    prefix="/api/files",
    tags=["files"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(up_to_date)],
    route_class=PlainFirst,
)

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Long poll: seconds to wait for a change of the document that `If-None-Match` "
        "names, or of the current one. A finished file is returned immediately.",
    ),
]


class _StatusAuthentication(Following):
    """Authenticates requests for one file. A ticket is valid only for its stream."""

    async def __call__(self, connection: HTTPConnection, *, stream: bool = False) -> Principal:
        if stream or _wants_stream(connection):
            return await super().__call__(connection)
        return await authenticated(connection)


async def _reader(asker: Annotated[Principal, Security(_StatusAuthentication())]) -> Visibility:
    return await reader(asker)


async def next_after(hub: Hub, known: Update, visible_to: Visibility, *, seconds: float) -> Update:
    """Return the next state that differs from a known one, or the same after so many seconds.

    Returns immediately if the file has finished, and when this pod shuts down.

    Raises:
        DeletedFileError: the file was deleted meanwhile.
        UnknownFileError: the file is no longer shared with the user.
    """
    file_id = known.status.file_id
    deadline = time.monotonic() + seconds
    current = known
    while current.etag == known.etag and not known.status.status.is_terminal and not hub.closing:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        changed = await next_change(
            hub, file_id, known=known.etag, seconds=left, visible_to=visible_to
        )
        if changed is None:
            raise unknown(file_id)
        current = changed
    return existing(current)


@router.get(
    "/{file_id}/process/status",
    response_model=StatusDocument,
    responses=CONDITIONAL,
    dependencies=[documented],
)
async def read_status(
    request: Request,
    file_id: FileId,
    hub: HubOf,
    settings: SettingsOf,
    monitor: MonitorOf,
    readable: Annotated[Visibility, Depends(_reader)],
    wait: Wait = 0.0,
    stream: Annotated[
        bool, Query(description="Follow the status as Server-Sent Events until the file finishes.")
    ] = False,
    fields: DocumentFields = None,
    if_none_match: IfNoneMatch = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Return the status of a file: once, at its next change, or as a live stream."""
    if not stream and not _wants_stream(request):
        return await read_file(
            request, file_id, hub, settings, monitor, readable, wait, fields, if_none_match
        )
    current = await find(hub, file_id, readable)
    if last_event_id == current.etag and current.status.status.is_terminal:
        return Response(status_code=204)  # Stops an EventSource from reconnecting.
    states = hub.follow(file_id, heartbeat=settings.heartbeat, visible_to=readable)
    return EventStream(status_frames(states), by_ticket=has_ticket(request))


@router.get("/{file_id}", response_model=StatusDocument, responses=CONDITIONAL)
async def read_file(
    request: Request,
    file_id: FileId,
    hub: HubOf,
    settings: SettingsOf,
    monitor: MonitorOf,
    readable: Readable,
    wait: Wait = 0.0,
    fields: DocumentFields = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return all details of a file: immediately, or at its next change.

    `Retry-After` says when polling again is useful, based on the progress and the queue.
    """
    wanted = parse_fields(fields, DOCUMENT_MEMBERS)
    current = await find(hub, file_id, readable)
    if is_head(request.scope):  # A response without a body is not worth waiting for.
        wait = 0.0
    if wait and (if_none_match is None or is_known(current, if_none_match)):
        seconds = min(wait, settings.max_wait, readable.seconds_left(utc_now().timestamp()))
        current = await next_after(hub, current, readable, seconds=seconds)
    place = _place(monitor, hub, current, readable)
    return status_answer(current, place, if_none_match, wanted)


def _place(monitor: Monitor, hub: Hub, current: Update, readable: Visibility) -> QueuePlace | None:
    """Return a file's place in the queue, without numbers that reveal other users' files."""
    place = monitor.queue_stats.place(current.status, utc_now(), behind=hub.seconds_behind)
    return place if place is None or readable.everything else place.without_others()


def _wants_stream(connection: HTTPConnection) -> bool:
    return "text/event-stream" in connection.headers.get("accept", "")

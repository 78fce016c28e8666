"""Many files on one connection, as Server-Sent Events: `GET /api/stream`."""

import asyncio
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request

from services.status.api.dependencies import HubOf, up_to_date
from services.status.api.detached_stream import DetachedStream
from services.status.api.feed import feed
from services.status.api.filters import parse_ids
from services.status.api.messages import Subscribe
from services.status.api.sse import BYE, EventStream, Frames, render
from services.status.api.tickets import Followable, documented, follower, has_ticket
from services.status.live.cursor import StreamCursor
from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.live.streaming_protocols import Handoff, handoff_of
from services.status.projection.projection import FileState
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(prefix="/api", tags=["live"])


@router.get(
    "/stream",
    response_class=EventStream,
    status_code=200,  # FastAPI would search for it in the class signature and fail.
    responses=ERROR_RESPONSES,
    # A pod that is still catching up must not redeem a ticket.
    dependencies=[Depends(up_to_date), Depends(follower), documented],
)
async def stream(
    request: Request,
    hub: HubOf,
    readable: Followable,
    ids: Annotated[
        str | None, Query(description="File ids, comma-separated; at most 1,000.")
    ] = None,
    owner: str | None = None,
    batch_id: str | None = None,
    label: Annotated[str | None, Query(description="`key:value`")] = None,
    status: FileState | None = None,
    cursor: Annotated[
        str | None,
        Query(description="The last event id, to resume from there. Same as `Last-Event-ID`."),
    ] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> EventStream:
    """Stream the current states of the matching files and every later one, as Server-Sent Events.

    With a cursor, the stream starts with the states missed since. See docs/stream.md.
    """
    wanted = Subscribe(
        type="subscribe",
        ids=parse_ids(ids),
        owner=owner,
        batch_id=batch_id,
        label=label,
        status=status,
    ).to_filter(readable)
    # A browser that reconnects sends the header, and still the original address.
    resume_from = last_event_id or cursor
    client = request.client.host if request.client else ""
    hub.admit(client)
    frames = _frames(
        hub,
        wanted,
        hub.seal.open(resume_from) if resume_from else None,
        client,
        handoff_of(request.scope),
    )
    return EventStream(frames, by_ticket=has_ticket(request))


async def _frames(
    hub: Hub,
    wanted: Filter,
    cursor: StreamCursor | None,
    client: str,
    handoff: Handoff | None,
) -> Frames:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - frames are always sent by a task
    with hub.subscribe(wanted, client=client, on_disconnect=task.cancel) as subscription:
        async with aclosing(feed(hub, subscription, cursor)) as feeding:
            async for message in feeding:
                yield render(message)
                if handoff is not None and subscription.is_idle:
                    detached = DetachedStream(hub, subscription)
                    if handoff(detached):
                        subscription.detach(detached)
                        return
    yield BYE

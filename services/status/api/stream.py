"""Many files on one connection: `GET /api/stream` as SSE and `WS /api/ws`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError

from services.status.api.dependencies import HubOf, SettingsOf, up_to_date
from services.status.api.files import parse_label
from services.status.api.sse import BYE, HEARTBEAT, EventStream, frame
from services.status.hub import Filter, Hub, Subscription
from services.status.projection import State
from shared.errors import WaybillError
from shared.problems import ERROR_RESPONSES

router = APIRouter(prefix="/api", tags=["live"])

log = logging.getLogger(__name__)

MAX_IDS = 1000
"""Ids in one subscription: what fits into a URL and into one read of MongoDB."""

GOING_AWAY = 1001
"""The close code of a pod that shuts down (RFC 6455): connect again."""


TRY_AGAIN_LATER = 1013
"""The close code of a pod that does not know the present yet (IANA's registry): connect again."""


class Subscribe(BaseModel):
    """What a WebSocket client sends: which files it wants to follow from now on."""

    type: Literal["subscribe"]
    ids: list[str] | None = None
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = None
    status: State | None = None

    def to_filter(self) -> Filter:
        return Filter(
            ids=None if self.ids is None else frozenset(self.ids[:MAX_IDS]),
            owner=self.owner,
            batch_id=self.batch_id,
            label=parse_label(self.label),
            status=self.status,
        )


@router.get(
    "/stream",
    response_class=EventStream,
    status_code=200,  # FastAPI would look for it in the signature of the class, in vain.
    responses=ERROR_RESPONSES,
    dependencies=[Depends(up_to_date)],
)
async def stream(
    hub: HubOf,
    settings: SettingsOf,
    ids: Annotated[str | None, Query(description="File ids, comma-separated.")] = None,
    owner: str | None = None,
    batch_id: str | None = None,
    label: Annotated[str | None, Query(description="`key:value`")] = None,
    status: State | None = None,
) -> EventStream:
    """Every change of the files that match, as Server-Sent Events; of `ids` the states first."""
    wanted = Subscribe(
        type="subscribe",
        ids=None if ids is None else [each for each in ids.split(",") if each],
        owner=owner,
        batch_id=batch_id,
        label=label,
        status=status,
    ).to_filter()
    return EventStream(_frames(hub, wanted, heartbeat=settings.heartbeat))


async def _frames(hub: Hub, wanted: Filter, *, heartbeat: float) -> AsyncIterator[bytes]:
    with hub.subscribe(wanted) as subscription:
        for update in await hub.snapshot(wanted):
            yield frame(update.summary)
        while not subscription.closed:
            arrived = await subscription.wait(heartbeat)
            if not arrived and not subscription.closed:
                yield HEARTBEAT
            for update in arrived:
                yield frame(update.summary)
    yield BYE


@router.websocket("/ws")
async def socket(websocket: WebSocket, hub: HubOf, settings: SettingsOf) -> None:
    """Every change of the files that the client's last `subscribe` matches."""
    await websocket.accept()
    if hub.behind is not None:
        await websocket.close(TRY_AGAIN_LATER, f"catching up with {hub.behind}")
        return
    pushing: asyncio.Task[None] | None = None
    try:
        while True:
            message = await _receive(websocket)
            if message is None:
                continue
            if pushing is not None:
                pushing.cancel()
            pushing = asyncio.create_task(
                _push(websocket, hub, message, heartbeat=settings.heartbeat)
            )
    except WebSocketDisconnect:
        pass
    finally:
        if pushing is not None:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)


async def _receive(websocket: WebSocket) -> Filter | None:
    """The next subscription; None for a message that is not one, which is answered."""
    text = await websocket.receive_text()
    try:
        return Subscribe.model_validate_json(text).to_filter()
    except ValidationError as error:
        faults = "; ".join(f"{fault['loc']}: {fault['msg']}" for fault in error.errors())
        message = f'Send {{"type": "subscribe", …}}: {faults}'
        await websocket.send_json({"type": "error", "code": "bad_message", "message": message})
    except WaybillError as error:
        await websocket.send_json({"type": "error", "code": error.code, "message": error.detail})
    return None


async def _push(websocket: WebSocket, hub: Hub, wanted: Filter, *, heartbeat: float) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):  # The client went while we were sending.
        try:
            with hub.subscribe(wanted) as subscription:
                await websocket.send_text('{"type":"subscribed"}')
                for update in await hub.snapshot(wanted):
                    await _send(websocket, update.summary)
                await _push_changes(websocket, subscription, heartbeat)
        except WaybillError as error:
            await websocket.send_json(
                {"type": "error", "code": error.code, "message": error.detail}
            )


async def _push_changes(websocket: WebSocket, subscription: Subscription, heartbeat: float) -> None:
    while not subscription.closed:
        arrived = await subscription.wait(heartbeat)
        for update in arrived:
            await _send(websocket, update.summary)
    await websocket.send_text('{"type":"bye"}')
    await websocket.close(GOING_AWAY)


async def _send(websocket: WebSocket, summary: bytes) -> None:
    await websocket.send_text(f'{{"type":"status","status":{summary.decode()}}}')

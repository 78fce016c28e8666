"""Many files on one WebSocket connection: `WS /api/ws`."""

import asyncio
from contextlib import suppress
from functools import partial

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from services.status.api.deferred_response import defer
from services.status.api.dependencies import HubOf, own_origin
from services.status.api.feed import feed
from services.status.api.messages import Bye, CloseCode, Fault, Subscribe
from services.status.api.tickets import follower, following, has_ticket
from services.status.live.cursor import StreamCursor
from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.live.streaming_protocols import direct_writer_of
from services.status.live.update import Batch
from services.status.store.access import Visibility
from shared.auth.accesserrors import ForeignOriginError, TokenExpiredError
from shared.errors import OverloadedError, WaybillError
from shared.http.problems import problem_response

router = APIRouter(prefix="/api", tags=["live"])

SUBSCRIBE_TIMEOUT = 10.0
"""Seconds for a client to send its first subscription. An idle connection would waste a place."""

MAX_FAULTS = 10
"""Invalid messages after which the connection is closed."""


@router.websocket("/ws")
async def socket(websocket: WebSocket, hub: HubOf) -> None:
    """Stream the files of the client's latest `subscribe` message; see docs/stream.md."""
    try:
        # Browsers let any page open a WebSocket here, so a foreign page could read the user's
        # files. A ticket is known only to the page that requested it.
        if not has_ticket(websocket):
            await own_origin(websocket)
    except ForeignOriginError:
        await websocket.close()  # Closing before accepting answers 403.
        return
    try:
        readable = await follower(await following(websocket))
    except WaybillError as error:
        await websocket.send_denial_response(problem_response(error, instance=websocket.url.path))
        return
    defer(websocket.scope, partial(_serve, hub, readable))


async def _serve(
    hub: Hub, readable: Visibility, scope: Scope, receive: Receive, send: Send
) -> None:
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    if hub.behind is not None:
        await websocket.close(CloseCode.TRY_AGAIN_LATER, f"catching up with {hub.behind}")
        return
    await _Connection(websocket, hub, readable).run()


class _Connection:
    """One client: reads its subscriptions, and pushes updates in a separate task."""

    def __init__(self, websocket: WebSocket, hub: Hub, readable: Visibility) -> None:
        self._websocket = websocket
        self._hub = hub
        self._readable = readable
        self._pushing: asyncio.Task[None] | None = None
        self._faults = 0

    async def run(self) -> None:
        """Serve the client until it disconnects or is disconnected."""
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT):
                wanted = await self._next()
            while True:
                await self._stop()
                self._pushing = asyncio.create_task(self._push(*wanted))
                wanted = await self._next()
        except WebSocketDisconnect:
            pass
        except TimeoutError:
            await self._close(CloseCode.NOTHING_SUBSCRIBED)
        except _TooManyFaultsError:
            await self._close(CloseCode.BAD_MESSAGES)
        except _BinaryMessageError:
            await self._close(CloseCode.BINARY)
        finally:
            await self._stop()

    async def _next(self) -> tuple[Filter, StreamCursor | None]:
        """Return the next valid subscription; answer invalid messages with an error."""
        while True:
            text = await self._receive()
            try:
                message = Subscribe.model_validate_json(text)
                wanted = message.to_filter(self._readable)
                cursor = self._hub.seal.open(message.cursor) if message.cursor else None
                return wanted, cursor
            except ValidationError as error:
                faults = "; ".join(f"{fault['loc']}: {fault['msg']}" for fault in error.errors())
                await self._refuse("bad_message", f'Send {{"type": "subscribe", …}}: {faults}')
            except WaybillError as error:
                await self._refuse(error.code, error.public_detail)

    async def _receive(self) -> str:
        """Return the next text message.

        Raises:
            WebSocketDisconnect: the client disconnected.
            _BinaryMessageError: the message is binary.
        """
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        text: str | None = message.get("text")
        if text is None:
            raise _BinaryMessageError
        return text

    async def _refuse(self, code: str, message: str) -> None:
        await self._websocket.send_text(Fault(code=code, message=message).model_dump_json())
        self._faults += 1
        if self._faults >= MAX_FAULTS:
            raise _TooManyFaultsError

    async def _push(self, wanted: Filter, cursor: StreamCursor | None) -> None:
        client = self._websocket.client.host if self._websocket.client else ""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - see `run`
        direct_writer = direct_writer_of(self._websocket.scope)
        subscription = None
        with suppress(WebSocketDisconnect, RuntimeError):  # The client disconnected.
            try:
                with self._hub.subscribe(
                    wanted, client=client, on_disconnect=task.cancel
                ) as subscription:
                    async for message in feed(self._hub, subscription, cursor, direct_writer):
                        if isinstance(message, Batch):
                            await self._send(message)
                        else:
                            await self._websocket.send_text(message.model_dump_json())
                        del message  # Do not keep it until the next one arrives.
                await self._websocket.send_text(Bye().model_dump_json())
                is_closing = self._hub.closing
                await self._close(CloseCode.GOING_AWAY if is_closing else CloseCode.EXPIRED)
            except asyncio.CancelledError:
                if subscription is None or not subscription.is_disconnected:
                    raise
                await self._close(CloseCode.SLOW)
            except WaybillError as error:
                await self._refuse(error.code, error.public_detail)
                if isinstance(error, OverloadedError):
                    await self._close(CloseCode.TRY_AGAIN_LATER)
                elif isinstance(error, TokenExpiredError):
                    await self._close(CloseCode.EXPIRED)

    async def _send(self, batch: Batch) -> None:
        for message in batch.messages:
            await self._websocket.send_text(message)

    async def _close(self, code: CloseCode) -> None:
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._websocket.close(code, code.meaning)

    async def _stop(self) -> None:
        if self._pushing is not None:
            self._pushing.cancel()
            await asyncio.gather(self._pushing, return_exceptions=True)


class _BinaryMessageError(Exception):
    """The client sent a binary message, which this protocol does not have."""


class _TooManyFaultsError(Exception):
    """The client sent `MAX_FAULTS` invalid messages."""

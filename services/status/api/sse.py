"""Server-Sent Events on raw ASGI: the frames are bytes, and nothing stands between them and send.

States are unnamed events, so that `EventSource.onmessage` gets them.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import Response
from starlette.types import Receive, Scope, Send

from services.status.api.lasting import leave
from services.status.api.messages import Reset, Subscribed
from services.status.live.update import Batch, Update
from shared.http.head_method import is_head

Frames = AsyncGenerator[bytes, None]

HEARTBEAT = b": heartbeat\n\n"
"""A comment: clients ignore it, proxies see that the connection lives."""

BYE = b"event: bye\ndata: {}\n\n"
"""The pod shuts down; a client that has not reached the end connects again, to another pod."""

RECONNECT_MS = 1000
"""How long a browser waits before it connects again."""


def frame(data: bytes, event_id: str | None = None) -> bytes:
    """One event; `data` is JSON and so has no line break."""
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + b"data: " + data + b"\n\n"


def render(told: Subscribed | Reset | Batch) -> bytes:
    """The frames of what a subscriber is told."""
    if not isinstance(told, Batch):
        data = told.model_dump_json(exclude={"type"}).encode()
        return b"event: " + told.type.encode() + b"\n" + frame(data)
    return told.events


async def status_frames(
    updates: AsyncGenerator[Update | None, None],
) -> AsyncGenerator[bytes, None]:
    """The frames of one file's stream: status documents with their histories."""
    over = False
    async with aclosing(updates):
        async for update in updates:
            if update is None:
                yield HEARTBEAT
            else:
                over = update.status.status.is_terminal
                yield frame(update.full, update.etag)
        if not over:
            yield BYE


class EventStream(Response):
    """A response that streams frames until they end or the client goes."""

    media_type = "text/event-stream"

    def __init__(self, frames: Frames, *, by_ticket: bool = False) -> None:
        """Args:
        by_ticket: whether a ticket has opened it: then a page of any origin may read it, as what
            lets it is no secret of the browser's.
        """
        headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        if by_ticket:
            headers["Access-Control-Allow-Origin"] = "*"
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the answer to the application; of a HEAD there is none but its head."""
        if is_head(scope):
            await super().__call__(scope, receive, send)
            return
        leave(scope, partial(_answer, self.raw_headers, self._frames))


async def _answer(
    headers: list[tuple[bytes, bytes]],
    frames: Frames,
    scope: Scope,  # noqa: ARG001
    receive: Receive,
    send: Send,
) -> None:
    answering = asyncio.current_task()
    assert answering is not None  # noqa: S101 - an answer is given by a task
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    leaving = asyncio.create_task(_disconnected(receive))
    leaving.add_done_callback(lambda _: answering.cancel())
    try:
        await _send_frames(frames, send)
    except asyncio.CancelledError:  # The client has gone, or was cut off.
        answering.uncancel()
    finally:
        leaving.cancel()


async def _send_frames(frames: Frames, send: Send) -> None:
    async def put(body: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    await put(f"retry: {RECONNECT_MS}\n\n".encode())
    async with aclosing(frames):  # A subscription ends here, whatever ends the sending.
        async for each in frames:
            await put(each)
    await put(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""Server-Sent Events on raw ASGI: frames are bytes and are sent without intermediate layers.

States are unnamed events, so that `EventSource.onmessage` receives them.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import Response
from starlette.types import Receive, Scope, Send

from services.status.api.deferred_response import defer
from services.status.api.messages import Reset, Subscribed
from services.status.live.update import Batch, Update
from shared.http.head_method import is_head

Frames = AsyncGenerator[bytes, None]

HEARTBEAT = b": heartbeat\n\n"
"""A comment: clients ignore it, and proxies see that the connection is alive."""

BYE = b"event: bye\ndata: {}\n\n"
"""The pod is shutting down. A client that has not seen the end reconnects to another pod."""

RECONNECT_MS = 1000
"""Milliseconds that a browser waits before it reconnects."""


def frame(data: bytes, event_id: str | None = None) -> bytes:
    """Return one event. `data` is JSON and has no line breaks."""
    head = b"" if event_id is None else f"id: {event_id}\n".encode()
    return head + b"data: " + data + b"\n\n"


def render(message: Subscribed | Reset | Batch) -> bytes:
    """Return the frames of a subscriber's message."""
    if not isinstance(message, Batch):
        data = message.model_dump_json(exclude={"type"}).encode()
        return b"event: " + message.type.encode() + b"\n" + frame(data)
    return message.events


async def status_frames(
    updates: AsyncGenerator[Update | None, None],
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of one file's stream: status documents with their histories."""
    has_ended = False
    async with aclosing(updates):
        async for update in updates:
            if update is None:
                yield HEARTBEAT
            else:
                has_ended = update.status.status.is_terminal
                yield frame(update.full, update.etag)
        if not has_ended:
            yield BYE


class EventStream(Response):
    """A response that streams frames until they end or the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, frames: Frames, *, by_ticket: bool = False) -> None:
        """Stream frames.

        Args:
            frames: the encoded events.
            by_ticket: True if a ticket opened the stream. A page of any origin may then read it,
                because access does not depend on the browser's cookies.
        """
        headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        if by_ticket:
            headers["Access-Control-Allow-Origin"] = "*"
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the response to the application; for HEAD, send the headers only."""
        if is_head(scope):
            await super().__call__(scope, receive, send)
            return
        defer(scope, partial(_answer, self.raw_headers, self._frames))


async def _answer(
    headers: list[tuple[bytes, bytes]],
    frames: Frames,
    scope: Scope,  # noqa: ARG001
    receive: Receive,
    send: Send,
) -> None:
    answering = asyncio.current_task()
    assert answering is not None  # noqa: S101 - a response always runs in a task
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    leaving = asyncio.create_task(_disconnected(receive))
    leaving.add_done_callback(lambda _: answering.cancel())
    try:
        await _send_frames(frames, send)
    except asyncio.CancelledError:  # The client disconnected or was cut off.
        answering.uncancel()
    finally:
        leaving.cancel()


async def _send_frames(frames: Frames, send: Send) -> None:
    async def put(body: bytes, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": more})

    await put(f"retry: {RECONNECT_MS}\n\n".encode())
    async with aclosing(frames):  # Ends the subscription, however sending ends.
        async for each in frames:
            await put(each)
    await put(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

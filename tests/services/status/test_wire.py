"""A connection can be written to at once, as long as its client reads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import websockets
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from services.status.subscription import Outlet
from services.status.update import Batch
from services.status.wire import outlet_of
from tests.support.serving import served

HEARTBEAT = Batch((), "c")
ENOUGH = 1_000_000
"""Heartbeats: far more than the buffers between two processes take."""

Use = Callable[[Outlet], Awaitable[None]]


@asynccontextmanager
async def writing(use: Use) -> AsyncIterator[httpx.AsyncClient]:
    """An application that opens each connection by way of ASGI and hands it to `use`."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        outlet = outlet_of(scope)
        assert outlet is not None
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await use(outlet)
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await use(outlet)
            await send({"type": "http.response.body", "body": b"the end"})

    app = FastAPI()
    app.mount("/", endpoint)
    async with served(app) as client:
        yield client


async def test_what_is_written_at_once_stands_before_what_is_sent_afterwards() -> None:
    async def twice(write: Outlet) -> None:
        assert write(HEARTBEAT)
        assert write(HEARTBEAT)

    async with writing(twice) as client:
        answer = await client.get("/")
    assert answer.text == 2 * ": heartbeat\nid: c\n\n" + "the end"


async def test_a_websocket_gets_messages_that_were_framed_once() -> None:
    async def twice(write: Outlet) -> None:
        assert write(HEARTBEAT)
        assert write(HEARTBEAT)

    async with writing(twice) as client, websockets.connect(ws_url(client)) as connection:
        messages = [message async for message in connection]
    assert messages == 2 * ['{"type":"heartbeat","cursor":"c"}']


async def test_nothing_is_written_to_who_does_not_read_or_has_gone() -> None:
    written: list[bool] = []
    over = asyncio.Event()

    async def until_full(write: Outlet) -> None:
        written.extend(write(HEARTBEAT) for _ in range(ENOUGH))
        while not write(HEARTBEAT):  # The connection was cut: what comes now is thrown away.
            await asyncio.sleep(0.01)
        over.set()

    async with writing(until_full) as client:
        async with client.stream("GET", "/"):
            pass
        async with asyncio.timeout(10):
            await over.wait()
    assert written[0]
    assert not written[-1]


def ws_url(client: httpx.AsyncClient) -> str:
    return str(client.base_url).replace("http", "ws", 1)

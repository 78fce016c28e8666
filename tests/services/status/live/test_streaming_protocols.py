"""Direct writes and handoff of connections, without ASGI."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import websockets
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from services.status.live.streaming_protocols import HandoffProtocol, direct_writer_of, handoff_of
from services.status.live.subscription import DirectWriter
from services.status.live.update import Batch, chunk
from tests.support.serving import served

HEARTBEAT = Batch((), "c")
MUCH = 100_000_000
"""Bytes. Far more than the socket buffers between two processes hold."""


@asynccontextmanager
async def serving(
    endpoint: Callable[[Scope, Receive, Send], Awaitable[None]],
) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.mount("/", endpoint)
    async with served(app) as client:
        yield client


def start() -> Message:
    return {"type": "http.response.start", "status": 200, "headers": []}


def body(content: bytes) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": True}


class Writer(HandoffProtocol):
    """Continues a response and ends it."""

    def __init__(self) -> None:
        self.is_lost = asyncio.Event()

    def finish(self) -> None:
        self.transport.write(chunk(b", taken over") + chunk(b""))
        self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.is_lost.set()


async def test_a_successor_goes_on_with_an_answer_after_the_application_has_returned() -> None:
    returned = asyncio.Event()
    writer = Writer()

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        handoff = handoff_of(scope)
        assert handoff is not None
        await send(start())
        await send(body(b"begun"))
        assert handoff(writer)
        await send(body(b"not sent"))
        returned.set()

    async with serving(endpoint) as client, client.stream("GET", "/") as answer:
        await returned.wait()
        await asyncio.sleep(0.05)
        assert writer in writer.connections
        writer.finish()
        assert await answer.aread() == b"begun, taken over"
        await writer.is_lost.wait()
        assert writer not in writer.connections


async def test_who_reads_too_slowly_is_not_handed_over_and_neither_is_who_has_gone() -> None:
    results: list[bool] = []
    tried, over = asyncio.Event(), asyncio.Event()

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        handoff = handoff_of(scope)
        assert handoff is not None
        await send(start())
        await send(body(bytes(MUCH)))
        results.append(handoff(Writer()))
        tried.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        results.append(handoff(Writer()))
        over.set()

    async with serving(endpoint) as client:
        async with client.stream("GET", "/"):
            await tried.wait()
        await over.wait()
    assert results == [False, False]


async def test_a_connection_that_was_handed_over_ends_with_the_server() -> None:
    writer = Writer()

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        handoff = handoff_of(scope)
        assert handoff is not None
        await send(start())
        assert handoff(writer)

    reader = None
    async with serving(endpoint) as client:
        reader, stream = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        stream.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == b""
    assert writer.is_lost.is_set()
    stream.close()


async def test_a_websocket_gets_messages_that_were_framed_once() -> None:
    async with talking(twice) as client, websockets.connect(ws_url(client)) as connection:
        messages = [message async for message in connection]
    assert messages == 2 * ['{"type":"heartbeat","cursor":"c"}']


async def twice(write: DirectWriter) -> None:
    assert write(HEARTBEAT)
    assert write(HEARTBEAT)


async def test_nothing_is_written_to_a_websocket_that_is_not_read_or_has_gone() -> None:
    written: list[bool] = []
    over = asyncio.Event()

    async def until_full(write: DirectWriter) -> None:
        written.extend(write(HEARTBEAT) for _ in range(MUCH // len(HEARTBEAT.frames)))
        async with asyncio.timeout(10):
            while not write(HEARTBEAT):  # Writes to a closed connection are discarded.
                await asyncio.sleep(0.01)
        over.set()

    async with talking(until_full) as client:
        connection = await websockets.connect(ws_url(client), max_queue=1)
        while not written:
            await asyncio.sleep(0.01)
        connection.transport.abort()
        async with asyncio.timeout(10):
            await over.wait()
    assert written[0]
    assert not written[-1]


async def test_a_send_waits_for_a_websocket_that_is_not_read_and_goes_on_when_it_is() -> None:
    sent: list[int] = []

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(30):
            await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
            sent.append(number)
        await send({"type": "websocket.close"})

    async with (
        serving(endpoint) as client,
        websockets.connect(ws_url(client), max_queue=1, max_size=None) as connection,
    ):
        await asyncio.sleep(0.5)
        assert len(sent) < 30
        assert len([message async for message in connection]) == 30


@asynccontextmanager
async def talking(
    use: Callable[[DirectWriter], Awaitable[None]],
) -> AsyncIterator[httpx.AsyncClient]:
    """A WebSocket that is accepted, used, and closed."""

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        direct_writer = direct_writer_of(scope)
        assert direct_writer is not None
        await receive()
        await send({"type": "websocket.accept"})
        await use(direct_writer)
        await send({"type": "websocket.close"})

    async with serving(endpoint) as client:
        yield client


def ws_url(client: httpx.AsyncClient) -> str:
    return str(client.base_url.join("/api/ws")).replace("http", "ws", 1)

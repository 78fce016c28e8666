"""Large bodies on a real socket arrive unchanged, by way of the parser or past it."""

import asyncio
import hashlib
import os
import select
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from services.upload.http.large_body_protocol import BLOCK, LargeBodies
from tests.fuzz.understanding import recorded

MUCH = os.urandom(4 * BLOCK + 12_345)

PATIENCE = 20.0
"""Seconds after which a wait fails the test."""


class AnyPath(LargeBodies):
    """Accepts files on every path."""

    def is_streamed(self) -> bool:
        return True


@dataclass
class Seen:
    """The messages of one request that the application received."""

    path: str
    messages: list[int] = field(default_factory=list)
    """Bytes of each message."""
    hash: str = ""
    is_whole: bool = False
    is_lost: bool = False


@dataclass
class Application:
    """Reads bodies and reports what it received. Runs in the thread of its server."""

    seen: list[Seen] = field(default_factory=list)
    may_read: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        seen = Seen(scope["path"])
        self.seen.append(seen)
        if scope["path"] == "/echo":
            await start(send)
        await self._read(seen, receive, send)
        if scope["path"] == "/gone":
            await asyncio.to_thread(self.may_answer.wait, PATIENCE)
            seen.is_lost = (await receive())["type"] == "http.disconnect"
        elif not seen.is_lost:
            if scope["path"] != "/echo":
                await start(send)
            await send({"type": "http.response.body", "body": seen.hash.encode()})

    async def _read(self, seen: Seen, receive: Receive, send: Send) -> None:
        sha256 = hashlib.sha256()
        while not seen.is_whole and not seen.is_lost:
            message = await receive()
            seen.is_lost = message["type"] == "http.disconnect"
            seen.is_whole = not seen.is_lost and not message.get("more_body", False)
            body = message.get("body", b"")
            seen.messages.append(len(body))
            sha256.update(body)
            if seen.path == "/echo":
                line = {"body": b"%d\n" % sum(seen.messages), "more_body": True}
                await send({"type": "http.response.body", **line})
            if seen.path == "/early" and sum(seen.messages) > BLOCK:
                break
            if seen.path == "/slow" and sum(seen.messages) > BLOCK:
                await asyncio.to_thread(self.may_read.wait, PATIENCE)
        seen.hash = sha256.hexdigest()


async def start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture(params=["uvloop", "asyncio"])
def port(request: pytest.FixtureRequest, application: Application) -> Iterator[int]:
    """The port of a server that differs from production only in its thread."""
    config = uvicorn.Config(
        application, log_config=None, http=AnyPath, loop=request.param, lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)  # Inherited by connections.
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        serving.start()
        yield listener.getsockname()[1]
        application.may_read.set()
        application.may_answer.set()
        server.should_exit = True
        serving.join(PATIENCE)
        assert not serving.is_alive()


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *pieces: bytes) -> None:
        self.writer.writelines(pieces)
        await self.writer.drain()

    async def answer(self) -> str:
        """Return the body of the next response, which is one chunk from the application."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return "".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[str]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size)).decode()
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE):
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        try:
            yield client
        finally:
            client.writer.close()


def head_of(size: int, path: str = "/", *more: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {size}", *more)
    return "\r\n".join((*lines, "", "")).encode()


def hash_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def until_given(application: Application, size: int) -> Seen:
    """Wait until the application has received this many bytes of its only request."""
    async with asyncio.timeout(PATIENCE):
        while not application.seen or sum(application.seen[0].messages) < size:
            await asyncio.sleep(0.01)
    return application.seen[0]


async def test_a_large_body_comes_in_large_pieces(port: int, application: Application) -> None:
    body = os.urandom(16 * BLOCK)
    async with connected(port) as client:
        await client.send(head_of(len(body)), body)

        assert await client.answer() == hash_of(body)

    # Through the parser there would be at least 256.
    assert len(application.seen[0].messages) < 100
    assert max(application.seen[0].messages) == BLOCK


async def test_a_connection_goes_on_after_bodies_of_any_length(
    port: int, application: Application
) -> None:
    lengths = [BLOCK - 1, BLOCK, BLOCK + 1, 0, 2 * BLOCK, 2 * BLOCK + 1, 100, 3 * BLOCK + 65_536]
    async with connected(port) as client:
        for length in lengths:
            await client.send(head_of(length), MUCH[:length])
            assert await client.answer() == hash_of(MUCH[:length])

    assert len(application.seen) == len(lengths)


async def test_what_is_sent_ahead_belongs_to_the_next_request(
    port: int, application: Application
) -> None:
    last = b"GET /last HTTP/1.1\r\nHost: a\r\n\r\n"
    requests = [head_of(len(MUCH), "/one"), MUCH, head_of(3, "/two"), b"abc"]
    requests += [head_of(len(MUCH), "/three"), MUCH, last]
    async with connected(port) as client:
        sending = asyncio.create_task(client.send(b"".join(requests)))
        answers = [await client.answer() for _ in range(4)]
        await sending

    assert answers == [hash_of(MUCH), hash_of(b"abc"), hash_of(MUCH), hash_of(b"")]
    assert [seen.path for seen in application.seen] == ["/one", "/two", "/three", "/last"]


async def test_a_client_that_asks_first_is_told_to_go_on(port: int) -> None:
    async with connected(port) as client:
        await client.send(head_of(len(MUCH), "/", "Expect: 100-continue"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(MUCH)

        assert await client.answer() == hash_of(MUCH)


async def test_a_body_of_unknown_length_is_left_to_the_parser(port: int) -> None:
    async with connected(port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"%x\r\n" % len(MUCH), MUCH, b"\r\n0\r\n\r\n", head_of(3), b"abc")

        assert await client.answer() == hash_of(MUCH)
        assert await client.answer() == hash_of(b"abc")


@pytest.mark.parametrize("abruptly", [False, True], ids=["closing", "resetting"])
async def test_what_came_before_the_client_went_is_given_out(
    port: int, application: Application, abruptly: bool
) -> None:
    async with connected(port) as client:
        await client.send(head_of(len(MUCH)), MUCH[: 2 * BLOCK + 1])
        seen = await until_given(application, 2 * BLOCK + 1)
        if abruptly:
            client.writer.transport.abort()

    async with asyncio.timeout(PATIENCE):
        while not seen.is_lost:
            await asyncio.sleep(0.01)
    assert not seen.is_whole
    assert seen.hash == hash_of(MUCH[: 2 * BLOCK + 1])


async def test_an_application_learns_that_nobody_waits_for_its_answer(
    port: int, application: Application
) -> None:
    """The client resets the connection. After a half-close it could still wait for the answer."""
    async with connected(port) as client:
        await client.send(head_of(len(MUCH), "/gone"), MUCH)
        seen = await until_given(application, len(MUCH))
        connection = client.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
    application.may_answer.set()

    async with asyncio.timeout(PATIENCE):
        while not seen.is_lost:
            await asyncio.sleep(0.01)


async def test_a_slow_client_is_heard(port: int) -> None:
    async with connected(port) as client:
        await client.send(head_of(len(MUCH), "/echo"), MUCH[:BLOCK])
        await client.reader.readuntil(b"\r\n\r\n")
        told, sent = client.chunks(), BLOCK
        for _ in range(3):
            while int(await anext(told)) < sent:
                pass
            await client.send(
                MUCH[sent : sent + 10]
            )  # Wait until it is delivered before sending more.
            sent += 10
        await client.send(MUCH[sent:])

        assert [line async for line in told][-1] == hash_of(MUCH)


async def test_an_early_answer_ends_the_connection(port: int, application: Application) -> None:
    async with connected(port) as client:
        await client.send(head_of(len(MUCH), "/early"), MUCH[: BLOCK + 1])

        assert await client.answer() == hash_of(MUCH[: BLOCK + 1])
        with suppress(ConnectionError):
            await client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await client.reader.read() == b""

    assert [seen.path for seen in application.seen] == ["/early"]


async def test_a_client_waits_for_a_slow_application(port: int, application: Application) -> None:
    body = os.urandom(64 * BLOCK)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        line.sendall(head_of(len(body), "/slow") + body[: BLOCK + 1])
        await until_given(application, BLOCK + 1)
        line.setblocking(False)
        sent = BLOCK + 1
        while select.select([], [line], [], 0.5)[1]:
            sent += line.send(body[sent : sent + BLOCK])
        assert sent < len(body) // 2

        application.may_read.set()
        line.settimeout(PATIENCE)
        line.sendall(body[sent:])
        answer = b""
        while hash_of(body).encode() not in answer:
            answer += line.recv(BLOCK)


@pytest.mark.parametrize(
    "target",
    [
        b"/api/files/upload?name=a",
        b"http://a/api/files/upload?name=a",
        b"/api/files/%75pload",
        b"HTTP://a/api/uploads/0",
    ],
)
async def test_files_have_their_own_bounds_whatever_the_form_of_the_target(target: bytes) -> None:
    async with recorded(LargeBodies) as (recorder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (target, len(MUCH)) + MUCH)
        async with asyncio.timeout(PATIENCE):
            assert b" 200 " in await reader.readline()
        writer.close()
    (requests,) = recorder.by_number.values()
    assert [request.body for request in requests] == [MUCH]

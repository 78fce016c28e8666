"""A client that shuts down its sending side after a request still gets the response."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from services.processor.app import create_app as create_processor
from services.processor.settings import ProcessorSettings
from services.status.app import create_app as create_status
from services.status.live.streaming_protocols import HttpProtocol
from services.status.settings import StatusSettings
from services.upload.http.large_body_protocol import LargeBodies
from services.upload.settings import UploadSettings
from shared.http.protocol import BoundedHttpProtocol
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.services.upload.service import running
from tests.support.serving import listening, served, until_ready


class Application:
    """Responds once `released` is set; streams at `/stream`."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        """Set once a disconnect was reported."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await self.released.wait()
        if scope["path"] != "/stream":
            headers = [(b"content-length", b"4")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"done"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture(params=[BoundedHttpProtocol, LargeBodies, HttpProtocol])
async def port(application: Application, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    http: type[BoundedHttpProtocol] = request.param
    config = uvicorn.Config(application, log_config=None, http=http, lifespan="off")
    async with listening(config) as port:
        yield port


async def answer(port: int, raw: bytes, *, before_answer: asyncio.Event | None = None) -> bytes:
    """Send raw bytes, half-close, and return the response until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    writer.write_eof()
    if before_answer is not None:
        await asyncio.sleep(
            0.1
        )  # By then the half-close has arrived; if not, the test proves less.
        before_answer.set()
    async with asyncio.timeout(20):
        answered = await reader.read()
    writer.close()
    return answered


LOCAL = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n"
LARGE = b"x" * 3_000_000


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (GET + b"\r\n", 1),
        (GET + b"Connection: close\r\n\r\n", 1),
        (b"GET /a HTTP/1.0\r\n\r\n", 1),
        ((GET + b"\r\n") * 3, 3),
        ((GET + b"\r\n") * 2 + GET, 2),
        ((GET + b"\r\n") + b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 1),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 1),
        (
            b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            1,
        ),
        (b"POST /api/uploads/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + LARGE, 1),
    ],
    ids=[
        *("kept alive", "closing", "1.0", "sent ahead", "half a head after it"),
        *("half a body after it", "a body", "chunks", "a large body"),
    ],
)
async def test_what_was_complete_is_answered(
    port: int, application: Application, raw: bytes, count: int, request: pytest.FixtureRequest
) -> None:
    if LARGE in raw and "LargeBodies" not in request.node.name:
        application.released.set()
        assert (await answer(port, raw)).startswith(b"HTTP/1.1 413 ")
        return
    answered = await answer(port, raw, before_answer=application.released)
    assert answered.count(b"HTTP/1.1 200 ") == answered.count(b"done") == count
    assert len(application.bodies) == count


@pytest.mark.parametrize(
    "raw",
    [b"", GET, b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_what_was_not_complete_is_no_request(
    port: int, application: Application, raw: bytes
) -> None:
    application.released.set()
    assert await answer(port, raw) == b""
    if b"POST" in raw:
        async with asyncio.timeout(20):
            await application.left.wait()
    assert application.bodies == []


@pytest.mark.parametrize("ends_first", [True, False])
async def test_a_stream_to_such_a_client_ends(
    port: int, application: Application, ends_first: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET.replace(b"/a", b"/stream") + b"\r\n")
    if ends_first:
        writer.write_eof()
        await asyncio.sleep(0.1)
    application.released.set()
    async with asyncio.timeout(20):
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        if not ends_first:
            writer.write_eof()
        await reader.read()
        await application.left.wait()
    writer.close()


def connections() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_connection_is_left(port: int, application: Application) -> None:
    application.released.set()
    await answer(port, GET + b"\r\n")
    before = connections()
    for raw in (GET + b"\r\n", GET, GET.replace(b"/a", b"/stream") + b"\r\n"):
        for _ in range(5):
            await answer(port, raw)
    async with asyncio.timeout(20):
        while connections() > before:
            await asyncio.sleep(0.02)


def port_of(client: httpx.AsyncClient) -> int:
    assert client.base_url.port is not None
    return client.base_url.port


async def test_the_upload_service_takes_a_file(settings: Settings) -> None:
    await create_topics(settings)
    head = (
        "POST /api/files/upload?name=a.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
    )
    async with running(UploadSettings(**settings.model_dump())) as service:
        answered = await answer(service.port, head.encode() + b"hello")
    assert answered.startswith(b"HTTP/1.1 202 ")


async def test_the_status_service_answers_and_ends_its_streams(
    settings: Settings,
) -> None:
    await create_topics(settings)
    app = create_status(StatusSettings(**settings.model_dump()))
    async with served(app) as client:
        await until_ready(client)
        listed = LOCAL.replace(b"/a", b"/api/files")
        assert (await answer(port_of(client), listed)).startswith(b"HTTP/1.1 200 ")
        followed = LOCAL.replace(b"/a", b"/api/stream")
        assert (await answer(port_of(client), followed)).startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(20):
            while app.state.hub._subscriptions:
                await asyncio.sleep(0.02)


async def test_the_processor_answers(settings: Settings) -> None:
    await create_topics(settings)
    app = create_processor(ProcessorSettings(**settings.model_dump(), workers=1))
    async with served(app, http=BoundedHttpProtocol) as client:
        asked = GET.replace(b"/a", b"/health/live") + b"\r\n"
        assert b" 200 " in await answer(port_of(client), asked)

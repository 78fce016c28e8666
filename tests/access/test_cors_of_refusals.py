"""Pages of allowed origins can read the error responses of the HTTP parser."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn

from services.status.app import create_app as create_status
from services.status.settings import StatusSettings
from services.upload.api import tus
from services.upload.settings import UploadSettings
from shared.http import limits
from shared.http.cors import ANY, STATE, CorsPolicy
from shared.http.protocol import BoundedHttpProtocol
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.fuzz.understanding import Recorder
from tests.services.upload.service import running
from tests.support.serving import listening, served

PAGE, OTHER = "https://page.example", "https://other.example"
NAMED = CorsPolicy(origins=frozenset({PAGE}), credentials=True)


class Bounded(BoundedHttpProtocol):
    """A protocol with a CORS policy in its state, as an application's lifespan yields it."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs | {"app_state": {STATE: NAMED}})  # type: ignore[arg-type]


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.3)
    config = uvicorn.Config(Recorder(), log_config=None, http=Bounded, lifespan="off")
    async with listening(config) as port:
        yield port


async def refused(port: int, raw: bytes) -> tuple[int, dict[str, str]]:
    """Send raw bytes; return the status and the headers of the error response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    async with asyncio.timeout(20):
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    writer.transport.abort()
    return int(line.split()[1]), dict(each.split(": ", 1) for each in lines if each)


HEAD = "POST /a HTTP/1.1\r\nHost: a\r\nOrigin: {}\r\n"

REFUSED = {
    "two lengths": (HEAD + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
    "no version": ("POST /a\r\nHost: a\r\nOrigin: {}\r\n\r\n", 400),
    "another version": (HEAD.replace("/1.1", "/1.2") + "\r\n", 400),
    "not to be parsed": (HEAD + "a b: c\r\n\r\n", 400),
    "a bare line feed": (HEAD + "a: b\n", 400),
    "a head without end": (HEAD + "a: b\r\n", 408),
    "a body without end": (HEAD + "Content-Length: 9\r\n\r\nx", 408),
    "an announced body": (HEAD + "Content-Length: 200000000\r\n\r\n", 413),
    "a chunk that is none": (HEAD + "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    "a large head": (HEAD + "a: " + "x" * limits.MAX_HEAD + "\r\n\r\n", 431),
    "a larger head": (HEAD + "a: b\r\n" * 20_000, 431),
    "many headers": (HEAD + "a: b\r\n" * limits.MAX_HEADERS + "\r\n", 431),
}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("origin", [PAGE, OTHER])
async def test_a_refusal_says_whether_the_page_may_read_it(
    port: int, raw: str, status: int, origin: str
) -> None:
    got, headers = await refused(port, raw.format(origin).encode())
    assert got == status
    assert headers["vary"] == "origin"
    if origin == PAGE:
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-allow-credentials"] == "true"
        assert "retry-after" in headers["access-control-expose-headers"]
    else:
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("second", [HEAD.format(PAGE) + "a b: c\r\n\r\n", "nonsense\r\n\r\n"])
async def test_what_another_request_named_is_of_no_matter(port: int, second: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((HEAD.format(OTHER) + "\r\n" + second).encode())
    async with asyncio.timeout(20):
        answers = (await reader.read()).decode()
    writer.close()
    _, _, refusal = answers.partition("HTTP/1.1 400 ")
    assert refusal
    assert (f"access-control-allow-origin: {PAGE}" in refusal) == (PAGE in second)
    assert OTHER not in answers


@pytest.mark.parametrize(
    "raw",
    [
        HEAD.format(PAGE) + f"Origin: {OTHER}\r\n\r\n",
        "nonsense\r\n\r\n",
        f"POST /a HTTP/1.1\r\nHost: a\r\nX: Origin: {PAGE}\r\na b: c\r\n\r\n",
    ],
    ids=["two origins", "no head", "the value of another header"],
)
async def test_where_the_page_is_not_known_none_is_allowed(port: int, raw: str) -> None:
    status, headers = await refused(port, raw.encode())
    assert status == 400
    assert not [name for name in headers if name.startswith("access-control")]


async def test_the_services_have_their_policies(settings: Settings) -> None:
    await create_topics(settings)
    bad = (HEAD.format(PAGE) + "a b: c\r\n\r\n").encode()
    async with running(UploadSettings(**settings.model_dump())) as service:
        status, headers = await refused(service.port, bad)
        assert (status, headers["access-control-allow-origin"]) == (400, ANY)
        exposed = headers["access-control-expose-headers"]
        assert all(name.lower() in exposed for name in tus.ANSWER_HEADERS)
    pages = StatusSettings(**settings.model_dump(), cors_origins=(PAGE,))
    async with served(create_status(pages)) as client:
        assert client.base_url.port is not None
        status, headers = await refused(client.base_url.port, bad)
        assert (status, headers["access-control-allow-origin"]) == (400, PAGE)

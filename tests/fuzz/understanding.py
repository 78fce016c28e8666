"""What a server takes for requests: ours, h11 and nginx, asked with the same bytes."""

import asyncio
import shutil
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import h11
import uvicorn
from starlette.types import Receive, Scope, Send

from services.upload.http.large_body_protocol import LargeBodies
from shared.http.protocol import BoundedHttpProtocol
from tests.fuzz.heads import Sample
from tests.support.serving import listening

QUIET = 0.5
"""Seconds of silence after which a server is taken to say no more. What is cut off by that can only
hide a difference, never make one: of ours, a prefix is expected."""


class Understood(NamedTuple):
    """A request as a server has it."""

    method: str
    path: str
    body: bytes | None


def understood_by_h11(raw: bytes) -> list[Understood]:
    """Return the requests that h11 finds before it rejects something or needs more."""
    return [request for request in begun_by_h11(raw) if request.body is not None]


def begun_by_h11(raw: bytes) -> list[Understood]:
    """Return the same, and the one whose head is whole and whose body is not: without a body."""
    found: list[Understood] = []
    while raw:
        # h11 rejects the empty lines before a request that RFC 9112, 2.2 asks a server to ignore.
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(_without_empty_lines(raw))
        request = _next_request(connection)
        if request is None:
            return found
        found.append(request)
        if request.body is None:
            return found
        connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is not h11.DONE:
            return found
        raw = bytes(connection.trailing_data[0])
    return found


def _without_empty_lines(raw: bytes) -> bytes:
    while raw.startswith(b"\r\n"):
        raw = raw[2:]
    return raw


def _next_request(connection: h11.Connection) -> Understood | None:
    head: h11.Request | None = None
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return _understood(head, body)
            else:
                return _understood(head, None)
    except h11.ProtocolError:
        return _understood(head, None)


def _understood(head: h11.Request | None, body: bytes | None) -> Understood | None:
    if head is None:
        return None
    return Understood(head.method.decode(), _path(head.target.decode("latin-1")), body)


def _path(target: str) -> str:
    return target.partition("://")[2].partition("/")[2] if "://" in target else target[1:]


class Recorder:
    """An application that notes what it is given whole."""

    def __init__(self) -> None:
        self.by_number: dict[int, list[Understood]] = defaultdict(list)
        self.answer = b""
        self.is_gone = False
        """Whether a client went before it had its answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["path"][1:]
        digits = "".join(filter(str.isdigit, path))
        self.by_number[int(digits or -1)].append(Understood(scope["method"], path, body))
        headers = [(b"content-length", b"%d" % len(self.answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})
        if self.answer:
            self.is_gone = (await receive())["type"] == "http.disconnect"


@asynccontextmanager
async def recorded(http: type[BoundedHttpProtocol] | str) -> AsyncIterator[tuple[Recorder, int]]:
    """A recorder behind a protocol of ours, or uvicorn's h11, and its port."""
    recorder = Recorder()
    config = uvicorn.Config(recorder, log_config=None, http=http, lifespan="off")
    async with listening(config) as port:
        yield recorder, port


async def answered(port: int, raw: bytes) -> bytes:
    """Send something and return what comes back until the server closes or says no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(raw)
        while piece := await asyncio.wait_for(reader.read(65536), QUIET):
            answer += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return answer


async def ask(port: int, samples: Sequence[Sample]) -> dict[int, bytes]:
    """Send each sample on a connection of its own; returns the answers by number."""
    turns = asyncio.Semaphore(100)

    async def one(sample: Sample) -> bytes:
        async with turns:
            return await answered(port, sample.raw)

    answers = await asyncio.gather(*map(one, samples))
    return {sample.number: answer for sample, answer in zip(samples, answers, strict=True)}


async def understood_by_us(
    samples: Sequence[Sample], http: type[BoundedHttpProtocol] = LargeBodies
) -> tuple[dict[int, list[Understood]], dict[int, bytes]]:
    """Return what our server has for requests, by sample, and what it answered."""
    async with recorded(http) as (recorder, port):
        answers = await ask(port, samples)
    return recorder.by_number, answers


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; merge_slashes off; client_header_timeout 1s; client_body_timeout 1s;
  keepalive_timeout 1s; lingering_close off; client_max_body_size 10m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host localhost;
      proxy_ignore_client_abort on;
    }}
  }}
}}
"""


def nginx_path() -> str | None:
    """Return where nginx is; None if it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


async def understood_by_nginx(
    samples: Sequence[Sample], folder: Path
) -> dict[int, list[Understood]]:
    """Return what nginx passes on for requests, by sample."""
    program = nginx_path()
    assert program is not None
    async with recorded("h11") as (recorder, upstream):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
        nginx = await asyncio.create_subprocess_exec(
            program, "-p", str(folder), "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _until_open(port)
            await ask_patiently(port, samples)
        finally:
            nginx.terminate()
            await nginx.wait()
    return recorder.by_number


async def ask_patiently(port: int, samples: Sequence[Sample]) -> None:
    """Send each sample, and wait until the server closes: what it passes on must be complete."""
    turns = asyncio.Semaphore(200)

    async def one(sample: Sample) -> None:
        async with turns:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sample.raw)
            try:
                async with asyncio.timeout(20):
                    while await reader.read(65536):
                        pass
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()

    await asyncio.gather(*map(one, samples))


async def _until_open(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

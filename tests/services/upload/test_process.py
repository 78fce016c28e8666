"""The service as a process: memory and shutdown."""

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from services.upload.app import create_app
from services.upload.settings import UploadSettings
from shared.http import limits
from shared.http.protocol import BoundedHttpProtocol
from tests.services.upload.service import UPLOAD, Service, until_connected

MEGABYTE = 1_000_000
PIECE = os.urandom(MEGABYTE)
LARGE = {"content-length": str(4 * MEGABYTE)}
"""Bytes of a body that is read past the parser."""

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads Linux's /proc")


@dataclass
class Process:
    """A separate service process, as in production."""

    client: httpx.AsyncClient
    running: asyncio.subprocess.Process

    def peak_memory(self) -> int:
        """Return the peak resident memory in bytes."""
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kilobytes) * 1024


@asynccontextmanager
async def started(settings: UploadSettings, **changes: str) -> AsyncIterator[Process]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        "WAYBILL_KAFKA": settings.kafka,
        "WAYBILL_TOPIC_PREFIX": settings.topic_prefix,
        "WAYBILL_BLOBS": settings.blobs,
        "WAYBILL_PORT": str(port),
    }
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.upload"), env=os.environ | environment | changes
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await until_listening(port)
            await until_connected(client)
            yield Process(client, running)
    finally:
        if running.returncode is None:
            running.terminate()
            await running.wait()


async def until_listening(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


async def form_of(count: int) -> AsyncIterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
    async for piece in pieces(count):
        yield piece
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize("is_announced", [False, True], ids=["chunked", "announced"])
@pytest.mark.parametrize("kind", ["raw", "form"])
async def test_memory_does_not_grow_with_the_file(
    settings: UploadSettings, kind: str, is_announced: bool
) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"} if kind == "form" else {}
    body = form_of if kind == "form" else pieces

    async def send(process: Process, count: int) -> httpx.Response:
        length = sum([len(piece) async for piece in body(count)])
        told = headers | ({"content-length": str(length)} if is_announced else {})
        return await process.client.post(UPLOAD, content=body(count), headers=told)

    async with started(settings) as process:
        await send(process, 10)
        before = process.peak_memory()

        answer = await send(process, 60)

        assert answer.status_code == 202
        assert answer.json()["size"] == 60 * MEGABYTE
        assert process.peak_memory() - before < 8 * MEGABYTE


@pytest.mark.parametrize("headers", [{}, LARGE], ids=["chunked", "announced"])
async def test_it_ends_in_time_even_while_an_upload_hangs(
    settings: UploadSettings, headers: dict[str, str]
) -> None:
    async def hanging() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield PIECE
        await asyncio.sleep(60)

    async with started(settings, WAYBILL_SHUTDOWN_GRACE="3") as process:
        sending = process.client.post(UPLOAD, content=hanging(), headers=headers)
        upload = asyncio.create_task(sending)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        process.running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await process.running.wait()

        assert time.monotonic() - began < 3
        assert Service(process.client, settings).blobs() == []
        upload.cancel()


@pytest.mark.parametrize("headers", [{}, LARGE], ids=["chunked", "announced"])
async def test_an_upload_under_way_at_the_end_is_finished(
    settings: UploadSettings, headers: dict[str, str]
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield PIECE
        await asyncio.sleep(1)
        yield PIECE

    async with started(settings) as process:
        sending = process.client.post(UPLOAD, content=slow(), headers=headers)
        upload = asyncio.create_task(sending)
        await asyncio.sleep(0.5)
        process.running.send_signal(signal.SIGTERM)

        assert (await upload).status_code == 202


async def test_a_head_without_an_end_is_hung_up_on(settings: UploadSettings) -> None:
    async with started(settings) as process:
        before = process.peak_memory()
        reader, writer = await asyncio.open_connection("127.0.0.1", process.client.base_url.port)
        writer.write(b"POST /api/files/upload HTTP/1.1\r\n")
        with suppress(ConnectionError):
            for number in range(100_000):
                writer.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
                await writer.drain()
        with suppress(ConnectionError):
            assert (await reader.read()).startswith(b"HTTP/1.1 431 ")

        assert number < 90_000
        assert process.peak_memory() - before < 8 * MEGABYTE
        assert (await process.client.get("/health/live")).status_code == 200


async def test_a_head_that_does_not_come_is_not_waited_for(
    settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.3)
    config = uvicorn.Config(create_app(settings), log_config=None, http=BoundedHttpProtocol)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        for begun in (b"", b"POST /api/files/upload HT", b"GET / HTTP/1.1\r\nHost: a\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            async with asyncio.timeout(15):
                assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.post(UPLOAD, content=slowly())).status_code == 202
        server.should_exit = True
        await serving


async def slowly() -> AsyncIterator[bytes]:
    for _ in range(4):
        yield b"x"
        await asyncio.sleep(0.2)

"""An S3 server on the loopback, behind a relay that a test can break, slow down and restore."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from shared.settings import Settings
from waybill.local.ports import HOST, free_port, wait_for_port

S = TypeVar("S", bound=Settings)

BUCKET = "waybill-tests"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
}
"""Environment variables for clients of the server."""

_REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def running_s3() -> Iterator[str]:
    """Run a server with one bucket in a process of its own, and yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, seconds=30, alive=lambda: server.poll() is None, what="S3")
        endpoint = f"http://{HOST}:{port}"
        httpx.put(f"{endpoint}/{BUCKET}").raise_for_status()
        yield endpoint
    finally:
        server.kill()
        server.wait()


class Mood(StrEnum):
    """The behavior of the relay."""

    WELL = "well"
    REFUSING = "refusing"
    """Every request is answered with 503."""
    LOSING = "losing"
    """Every request is executed and then answered with 503."""
    SLOW = "slow"
    """Every piece of a response is delayed."""


class StoreLine:
    """A relay in front of an S3 server."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._host, self._port = address.hostname, address.port
        self._calls: set[asyncio.Task[None]] = set()
        self.mood = Mood.WELL
        self.refused = 0
        self.address = ""

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        there, back = await asyncio.open_connection(self._host, self._port)
        with contextlib.suppress(asyncio.CancelledError):
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._requests(reader, back, writer))
                    both.create_task(self._answers(there, writer))
            except* OSError:
                pass  # One side has disconnected.
        back.close()
        writer.transport.abort()

    async def hang_up(self) -> None:
        """Close all connections."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _requests(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if self.mood is Mood.REFUSING:
                self.refused += 1
                writer.write(_REFUSAL)
                await writer.drain()
                break
            back.write(data)
            await back.drain()
        raise ConnectionError

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.mood is Mood.LOSING:
                writer.write(_REFUSAL)
                await writer.drain()
                break
            if self.mood is Mood.SLOW:
                await asyncio.sleep(0.1)
            writer.write(data)
            await writer.drain()
        raise ConnectionError


def on_s3(settings: S, line: StoreLine) -> S:
    """Return the settings with the blob store behind the relay."""
    blobs = f"s3://{BUCKET}/{settings.database}"
    return settings.model_copy(update={"blobs": blobs, "blobs_endpoint": line.address})


@asynccontextmanager
async def line_to_s3(endpoint: str) -> AsyncIterator[StoreLine]:
    """Open a working relay for the block."""
    line = StoreLine(endpoint)
    server = await asyncio.start_server(line.relay, "127.0.0.1", 0)
    line.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        await line.hang_up()

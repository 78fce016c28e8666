"""Floods without end to each service of a whole Waybill: memory stays flat, others are served."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.fuzz.__main__ import pids_of, ports_of, resident
from tests.support.stack import RunningStack

MEBIBYTE = 1 << 20
SENT = 48 * MEBIBYTE
"""Bytes that a client tries to send: far more than a service may grow by."""

GROWTH = 24 * MEBIBYTE

POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-Y: zzzzzzzz\r\n"),
    "header line": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X-Y: zzzzzzzz\r\n"),
    "extension": (CHUNKED + b"5;", b"x"),
    "size": (CHUNKED, b"0"),
    "json": (CHUNKED, b"8\r\n[[[[[[[[\r\n"),
    "announced json": (POST + b"Content-Length: 200000000\r\n\r\n", b"["),
    "sent ahead": (b"", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "empty lines": (b"", b"\r\n"),
}
JSON_AT = {
    "upload": b"/api/files/upload/from-url",
    "status": b"/api/files/bulk",
    "processor": b"/health/live",
}


async def flood(port: int, begin: bytes, more: bytes) -> None:
    """Send, and read nothing, until the service has had enough."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    block = more * (65_536 // len(more))
    try:
        writer.write(begin)
        for _ in range(SENT // len(block)):
            writer.write(block)
            async with asyncio.timeout(1):
                await writer.drain()
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("service", ["upload", "status", "processor"])
async def test_memory_stays_flat_and_others_are_served(stack: RunningStack, service: str) -> None:
    port, pid = ports_of(stack)[service], pids_of(stack)[service]
    served: list[float] = []

    async def others() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while True:
                begun = time.monotonic()
                assert (await client.get("/health/live")).status_code == 200
                served.append(time.monotonic() - begun)
                await asyncio.sleep(0.05)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/health/live")).status_code == 200
    before = resident(pid)
    asking = asyncio.create_task(others())
    for begin, more in FLOODS.values():
        first = begin % JSON_AT[service] if b"%b" in begin else begin
        await asyncio.gather(*(flood(port, first, more) for _ in range(2)))
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    grown = resident(pid) - before
    for _, writer in idle:
        writer.transport.abort()

    assert Path(f"/proc/{pid}").exists()
    assert grown < GROWTH, f"{grown >> 20} MiB"
    assert len(served) > 5
    assert asking.cancelled()  # And not ended by a refusal.

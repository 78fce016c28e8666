"""Slow readers keep their connections; clients that read nothing are disconnected."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from shared.http import limits
from shared.http.slow_reader import SlowReaderWatch


class StuckTransport:
    """A transport with a full write buffer, because the kernel accepts no more bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.aborted = asyncio.Event()
        self.looked_at = 0

    def get_write_buffer_size(self) -> int:
        self.looked_at += 1
        return 65_536

    def get_extra_info(self, name: str) -> object:
        return {"socket": self.connection}.get(name)

    def abort(self) -> None:
        self.aborted.set()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the two ends of a connection whose first end cannot write any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        server.setblocking(False)
        while True:
            try:
                server.send(bytes(1 << 20))
            except BlockingIOError:
                break
        yield server, client


async def test_a_client_that_reads_what_the_kernel_has_is_not_stalled(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = ends
    transport = StuckTransport(server)
    watch = SlowReaderWatch()
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.2)
    watch.begin(cast("Any", transport))
    monkeypatch.setattr(limits, "STALL_SECONDS", 3600)  # For the time after the next check.
    looked_at = transport.looked_at
    for _ in range(16):  # Each time less than the kernel's threshold for more data.
        client.recv(65_536)
    async with asyncio.timeout(20):
        while transport.looked_at <= looked_at and not transport.aborted.is_set():
            await asyncio.sleep(0.02)
    assert not transport.aborted.is_set()
    watch.end()


async def test_a_client_that_reads_nothing_loses_its_connection(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.05)
    transport = StuckTransport(ends[0])
    watch = SlowReaderWatch()
    watch.begin(cast("Any", transport))

    async with asyncio.timeout(20):
        await transport.aborted.wait()
    watch.end()

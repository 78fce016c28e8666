"""Many connections in one process that count and discard messages.

The process prints `open` once all connections are open. For each measurement it reads a number of
seconds from its input and prints the number of messages received. As a separate process, it uses no
processor time of the server.
"""

import asyncio
import base64
import os
import struct
import sys
from functools import partial
from typing import NamedTuple, cast

import uvloop

MARKER = b"delivery"
"""Occurs once in each message. Waybill's documents have `WAYBILL_MARKER` instead."""

WAYBILL_MARKER = b'"file_id":'

TEXT = 0x81
PING, PONG = b"\x89\x04", b"\x8a\x84" + bytes(4)
"""WebSocket frames with four bytes, which occur in no JSON; the pong is masked with zeros."""


class Opening(NamedTuple):
    """The first request of a client, and its message after the answer."""

    request: bytes
    message: bytes = b""


def websocket(path: str, text: str) -> Opening:
    """Return a WebSocket's opening and the client's first message, masked with zeros."""
    key = base64.b64encode(os.urandom(16)).decode()
    opening = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    frame = struct.pack("!BB4x", TEXT, 0x80 | len(text)) + text.encode()
    return Opening(opening.encode(), frame)


def http(path: str) -> Opening:
    """Return a plain request."""
    return Opening(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


KINDS = {
    "floor": lambda: http("/"),
    "sse-starlette": lambda: http("/"),
    "python-socketio": lambda: websocket("/socket.io/?EIO=4&transport=websocket", "40"),
    "centrifuge": lambda: websocket(
        "/connection/websocket",
        '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"files"}}',
    ),
    "Waybill SSE": lambda: http("/api/stream"),
    "Waybill WebSocket": lambda: websocket("/api/ws", '{"type":"subscribe"}'),
}


class Counter(asyncio.Protocol):
    """One connection."""

    received = 0
    lost = 0
    opened = 0

    def __init__(self, opening: Opening, marker: bytes) -> None:
        self._opening = opening
        self._marker = marker
        self._rest = b""
        self._is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._opening.request)

    def data_received(self, data: bytes) -> None:
        if not self._is_open:
            self._is_open = True
            Counter.opened += 1
            self._transport.write(self._opening.message)
        if (ping := data.find(PING)) >= 0:  # Otherwise the server closes the connection.
            self._transport.write(PONG + data[ping + len(PING) :][:4])
        data = self._rest + data
        Counter.received += data.count(self._marker)
        self._rest = data[-len(self._marker) + 1 :]

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        Counter.lost += 1


async def main() -> None:
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    marker = WAYBILL_MARKER if kind.startswith("Waybill") else MARKER
    loop = asyncio.get_running_loop()
    for number in range(count):
        opening = KINDS[kind]()
        await loop.create_connection(partial(Counter, opening, marker), "127.0.0.1", port)
        while Counter.opened < number - 100:
            await asyncio.sleep(0.001)
    while Counter.opened < count:
        await asyncio.sleep(0.01)
    print("open", flush=True)  # noqa: T201 - read by the parent
    while line := await asyncio.to_thread(sys.stdin.readline):
        before = Counter.received
        await asyncio.sleep(float(line))
        print(Counter.received - before, Counter.lost, flush=True)  # noqa: T201


if __name__ == "__main__":
    uvloop.run(main())

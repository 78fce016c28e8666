"""What our servers' connections can do past ASGI, told by the extensions of a scope.

An ASGI server is awaited for every message and encodes it for the one connection, and keeps what it
knows of a request until the answer is over. What a thousand connections are told is the same bytes
for all, and may go on for hours. So a WebSocket can be written to at once, and the connection of an
answer can be handed over to who goes on with it. Under any other server all goes the way of ASGI.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Literal, cast

from websockets.http11 import Request

from services.status.live.subscription import DirectWriter
from services.status.live.update import Batch
from shared.http.protocol import BoundedHttpProtocol
from shared.http.websocket import BoundedWebSocketProtocol

DIRECT_WRITER = "waybill.direct_writer"
HANDOFF = "waybill.handoff"


class HandoffProtocol(asyncio.Protocol):
    """Takes a connection over, in the midst of an answer in chunks."""

    __slots__ = ("connections", "transport")

    connections: set[Any]
    """The server's, for whose end it waits."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the connection is taken over."""
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Called when the connection has ended."""
        self.connections.discard(self)

    def shutdown(self) -> None:
        """Called when the server ends, by uvicorn; those who are told so end by themselves."""
        self.transport.close()


Handoff = Callable[[HandoffProtocol], bool]
"""Hands a connection over, so that the application returns; False if it cannot be done now, as the
client reads too slowly."""


def direct_writer_of(scope: MutableMapping[str, Any]) -> DirectWriter | None:
    """What writes to a connection past ASGI, if its server can do that.

    To be used between the beginning and the end of an answer, or of a conversation. It takes
    nothing while the client reads too slowly; what comes when the client has gone is thrown away.
    """
    direct_writer: DirectWriter | None = scope.get("extensions", {}).get(DIRECT_WRITER)
    return direct_writer


def handoff_of(scope: MutableMapping[str, Any]) -> Handoff | None:
    """What hands a connection over in the midst of an answer, if its server can do that."""
    handoff: Handoff | None = scope.get("extensions", {}).get(HANDOFF)
    return handoff


class HttpProtocol(BoundedHttpProtocol):
    """HTTP/1.1 that lets go of connections whose answers last."""

    websocket_paths = frozenset({b"/api/ws"})

    def on_message_begin(self) -> None:
        """Called when a request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {HANDOFF: self._hand_off}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has ended."""
        super().connection_lost(exc)
        self._drop_references()

    def handle_websocket_upgrade(self) -> None:
        """Called when the connection becomes a WebSocket, which has a protocol of its own."""
        super().handle_websocket_upgrade()
        self._drop_references()

    def _hand_off(self, protocol: HandoffProtocol) -> bool:
        if self.flow.write_paused or self.transport.is_closing() or self._held:
            return False
        self.flow.resume_reading()
        self.connections.discard(self)
        self.connections.add(protocol)  # type: ignore[arg-type]
        protocol.connections = self.connections
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        # For uvicorn the client has gone: it expects no more of the answer.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._clear_timer()
        self._reader.end()
        self._drop_references()
        return True

    def _drop_references(self) -> None:
        """Of what holds us, so that nothing is left for the garbage collector."""
        self.parser = None  # type: ignore[assignment]
        if self.scope is not None:
            self.scope["extensions"] = {}


class WebSocketProtocol(BoundedWebSocketProtocol):
    """A WebSocket whose messages can be written at once."""

    writable: "_Gate"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.writable = _Gate()

    def handle_connect(self, event: Request) -> None:
        """Called with the request that opens the WebSocket."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and not self.conn.extensions:
            write = _FrameWriter(self.transport, self.writable).write
            self.scope["extensions"][DIRECT_WRITER] = write  # type: ignore[assignment]

    def start_keepalive(self) -> None:
        """Called when the WebSocket is open."""
        super().start_keepalive()
        # 3 kB a connection, which nobody reads any more.
        self.request.headers.clear()
        del self.response

    async def send(self, message: Any) -> None:
        """Send a message; what is written at once after the last one is thrown away."""
        if message["type"] == "websocket.close":
            self.writable.is_over = True
        await super().send(message)


class _Gate(asyncio.Event):
    """Set as long as a connection can be written to, which is nearly always.

    It has no queue of waiters until it is needed, which is 0.7 kB less.
    """

    def __init__(self) -> None:
        self.closed: asyncio.Event | None = None
        self.is_over = False

    def is_set(self) -> bool:
        return self.closed is None

    def set(self) -> None:
        if self.closed is not None:
            self.closed.set()
            self.closed = None

    def clear(self) -> None:
        self.closed = self.closed or asyncio.Event()

    async def wait(self) -> Literal[True]:
        while self.closed is not None:
            await self.closed.wait()
        return True


class _FrameWriter:
    """The messages of an open WebSocket, in frames."""

    __slots__ = ("_gate", "_transport")

    def __init__(self, transport: asyncio.Transport, gate: _Gate) -> None:
        self._transport = transport
        self._gate = gate

    def write(self, batch: Batch) -> bool:
        gate = self._gate
        if gate.closed is not None:
            return False
        if not gate.is_over and not self._transport.is_closing():
            self._transport.write(batch.frames)
        return True

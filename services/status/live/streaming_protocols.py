"""Server protocols that write to live connections without ASGI.

An ASGI server awaits every message, encodes it per connection, and keeps the request's state until
the response ends. A live stream sends the same bytes to a thousand connections and may last for
hours. These protocols therefore offer two extensions in the ASGI scope. A WebSocket can be written
to directly, and an HTTP connection can be handed off to another protocol during its response. Under
any other server, everything goes through ASGI.
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
    """Takes over a connection in the middle of a chunked response."""

    __slots__ = ("connections", "transport")

    connections: set[Any]
    """The server's set of open connections. The server waits for them on shutdown."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the connection is taken over."""
        # uvloop's transports are not subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Called when the connection has closed."""
        self.connections.discard(self)

    def shutdown(self) -> None:
        """Called by uvicorn on shutdown. Streams that the hub has closed end by themselves."""
        self.transport.close()


Handoff = Callable[[HandoffProtocol], bool]
"""Hands a connection off, so that the application can return. Returns False if this is not possible
now because the client reads too slowly."""


def direct_writer_of(scope: MutableMapping[str, Any]) -> DirectWriter | None:
    """Return the function that writes to a connection without ASGI, or None if the server has none.

    Use it between the start and the end of a response or a conversation. It returns False while the
    client reads too slowly. It discards messages for a client that has disconnected.
    """
    direct_writer: DirectWriter | None = scope.get("extensions", {}).get(DIRECT_WRITER)
    return direct_writer


def handoff_of(scope: MutableMapping[str, Any]) -> Handoff | None:
    """Return the function that hands off a connection during a response, or None without one."""
    handoff: Handoff | None = scope.get("extensions", {}).get(HANDOFF)
    return handoff


class HttpProtocol(BoundedHttpProtocol):
    """HTTP/1.1 protocol that can hand off the connections of long-lived responses."""

    websocket_paths = frozenset({b"/api/ws"})

    def on_message_begin(self) -> None:
        """Called when a request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {HANDOFF: self._hand_off}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection has closed."""
        super().connection_lost(exc)
        self._drop_references()

    def handle_websocket_upgrade(self) -> None:
        """Called when the connection becomes a WebSocket, which has its own protocol."""
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
        # For uvicorn the client has disconnected: it expects no more of the response.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._clear_timer()
        self._reader.end()
        self._drop_references()
        return True

    def _drop_references(self) -> None:
        """Break the reference cycles, so that nothing is left for the garbage collector."""
        self.parser = None  # type: ignore[assignment]
        if self.scope is not None:
            self.scope["extensions"] = {}


class WebSocketProtocol(BoundedWebSocketProtocol):
    """WebSocket protocol whose messages can be written directly."""

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
        # Frees 3 kB per connection that nothing reads any more.
        self.request.headers.clear()
        del self.response

    async def send(self, message: Any) -> None:
        """Send a message. Direct writes after the closing message are discarded."""
        if message["type"] == "websocket.close":
            self.writable.is_over = True
        await super().send(message)


class _Gate(asyncio.Event):
    """An event that is set while a connection is writable, which is nearly always.

    It has no queue of waiters until one is needed, which saves 0.7 kB per connection.
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
    """Writes the messages of an open WebSocket as frames."""

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

"""Writing to a connection at once, past ASGI.

An ASGI server is awaited for every message and encodes it for the one connection. What a thousand
connections are told is the same bytes for all; so the servers' protocols get a way to write those,
which an endpoint finds among the extensions of its scope. Under any other server there is none, and
all goes the way of ASGI.
"""

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from services.status.subscription import Outlet
from services.status.update import Batch

EXTENSION = "waybill.outlet"


def outlet_of(scope: MutableMapping[str, Any]) -> Outlet | None:
    """What writes to a connection past ASGI, if its server can do that.

    To be used between the beginning and the end of an answer, or of a conversation. It takes
    nothing while the client reads too slowly; what comes when the client has gone is thrown away.
    """
    outlet: Outlet | None = scope.get("extensions", {}).get(EXTENSION)
    return outlet


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose bodies can be written at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when a client has connected."""
        super().connection_made(transport)
        self._write = _Body(transport, self.flow).write

    def on_message_begin(self) -> None:
        """Called when a request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self._write}  # type: ignore[dict-item]


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose messages can be written at once."""

    def handle_connect(self, event: Request) -> None:
        """Called with the request that opens the WebSocket."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and not self.conn.extensions:
            write = _Messages(self.transport, self.writable, self.conn).write
            self.scope["extensions"][EXTENSION] = write  # type: ignore[assignment]

    def start_keepalive(self) -> None:
        """Called when the WebSocket is open."""
        super().start_keepalive()
        # 3 kB a connection, which nobody reads any more.
        self.request.headers.clear()
        self.response.headers.clear()


# Apart from the protocols: what a scope holds must not hold the scope.


class _Body:
    """The rest of an answer, in chunks."""

    __slots__ = ("_flow", "_transport")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow

    def write(self, batch: Batch) -> bool:
        if self._flow.write_paused:
            return False
        if not self._transport.is_closing():
            self._transport.write(batch.chunk)
        return True


class _Messages:
    """The messages of an open WebSocket, in frames."""

    __slots__ = ("_conversation", "_transport", "_writable")

    def __init__(
        self, transport: asyncio.Transport, writable: asyncio.Event, conversation: ServerProtocol
    ) -> None:
        self._transport = transport
        self._writable = writable
        self._conversation = conversation

    def write(self, batch: Batch) -> bool:
        if not self._writable.is_set():
            return False
        if self._conversation.state is OPEN and not self._transport.is_closing():
            self._transport.write(batch.frames)
        return True

"""WebSockets with limits on the size, frames, time and rate of messages.

The parser limits the size of a message (`MAX_MESSAGE`) and does not support compression. It does
not limit the empty frames of a message, its time, or the rate of pings. Each ping is answered, so
answers to a client that does not read would accumulate.
"""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from shared.http import limits
from shared.http.slow_reader import SlowReaderMixin, SlowReaderWatch
from shared.telemetry import HTTP_REFUSED

log = logging.getLogger(__name__)

INVALID_DATA, POLICY_VIOLATION = 1007, 1008
"""Close codes (RFC 6455, 7.4.1)."""


class BoundedWebSocketProtocol(SlowReaderMixin, WebSocketsSansIOProtocol):
    """A WebSocket for untrusted clients."""

    _allowance = float(limits.FRAMES_AT_ONCE)
    """Frames that the client may send now."""
    _counted_at = 0.0
    _message_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the connection."""
        self._reader = SlowReaderWatch()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the resources of the connection."""
        self._clear_message_timer()
        self._reader.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes, and start a timer for an incomplete message."""
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # The parser has prepared an error response, which uvicorn does not send.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.handshake_complete = self.close_sent = True
            self.transport.close()
        elif self.handshake_complete and not self.disconnected:
            # The parser buffers an incomplete frame; `frames` holds those of an incomplete message.
            is_open = bool(self.frames) or self._has_partial_frame()
            if not is_open:
                self._clear_message_timer()
            elif self._message_timer is None:
                self._message_timer = self.loop.call_later(
                    limits.MESSAGE_SECONDS,
                    self._refuse,
                    f"A message was not complete after {limits.MESSAGE_SECONDS:g} seconds.",
                )

    def _has_partial_frame(self) -> bool:
        return len(self.conn.reader.buffer) > 0

    def handle_text(self, event: Frame) -> None:
        """Handle the first frame of a text message."""
        if self._count():
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Handle the first frame of a binary message."""
        if self._count():
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Handle a continuation frame."""
        if self._count():
            super().handle_cont(event)
            if len(self.frames) > limits.MAX_FRAGMENTS:
                self._refuse(f"A message has more than {limits.MAX_FRAGMENTS} frames.")

    def handle_ping(self) -> None:
        """Answer a ping, unless the client does not read or the handshake is incomplete."""
        if not self._count():
            return
        if self.handshake_complete and self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        """Handle a pong."""
        if self._count():
            super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        """Deliver a complete message. Text must be UTF-8 (RFC 6455, 8.1)."""
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            self._refuse("A text message is not UTF-8.", code=INVALID_DATA)
            return
        super().send_receive_event_to_app()

    def _count(self) -> bool:
        """Count a frame; close the WebSocket and return False if the rate is too high."""
        if self.close_sent:
            return False
        now = self.loop.time()
        earned = (now - self._counted_at) * limits.FRAMES_PER_SECOND
        self._allowance = min(limits.FRAMES_AT_ONCE, self._allowance + earned) - 1
        self._counted_at = now
        if self._allowance < 0:
            self._refuse(f"More than {limits.FRAMES_PER_SECOND:g} frames per second.")
            return False
        return True

    def _refuse(self, why: str, *, code: int = POLICY_VIOLATION) -> None:
        self._clear_message_timer()
        self.frames = []
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        kind = "websocket_limit" if code == POLICY_VIOLATION else "websocket_encoding"
        HTTP_REFUSED.labels(code=kind).inc()
        log.info("closing the WebSocket of %s: %s", self.client, why)
        self.conn.fail(code, why)
        if self.conn.close_sent is None:  # It is not open yet.
            self.transport.abort()
            return
        self.handle_parser_exception()
        self._reader.begin(self.transport)

    async def send(self, message: Any) -> None:
        """Send a message (ASGI)."""
        await super().send(message)
        if self.transport.is_closing():
            self._reader.begin(self.transport)

    def _clear_message_timer(self) -> None:
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None


def _is_utf8(frames: list[bytes]) -> bool:
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True

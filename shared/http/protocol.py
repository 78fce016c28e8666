"""HTTP/1.1 connections with limits on size and time, and unambiguous request boundaries.

The parser sees heads only. This module determines the end of a body from its `Content-Length` or
its chunks; no upgrade, leniency or trailer of the parser can move it. A connection handles one
request at a time: pipelined data waits until the previous response is complete. A response that is
sent before the request's body has ended gets `Connection: close`. The rest of the body is read and
discarded for a while (lingering close), because a reset could destroy the response.
"""

import asyncio
import logging
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.errors import RefusedError
from shared.http import limits
from shared.http.chunked import ChunkedBody
from shared.http.cors import STATE as CORS
from shared.http.half_closed import HalfClosedTransport, is_owed_an_answer, is_stream
from shared.http.head import (
    BODILESS,
    Framing,
    check_target,
    origin_form,
    origin_in,
    path_of,
    read_framing,
    wants_websocket,
)
from shared.http.lingering import LingeringTransport
from shared.http.refusal_answer import refusal_answer
from shared.http.refusals import (
    HeadTooLargeError,
    MalformedRequestError,
    UnsupportedVersionError,
    too_large,
    too_late,
)
from shared.http.slow_reader import SlowReaderMixin, SlowReaderWatch
from shared.telemetry import HTTP_REFUSED

log = logging.getLogger(__name__)

_HEAD, _LENGTH, _CHUNKS, _ANSWER, _OVER, _WEBSOCKET = range(6)
"""Use of the next bytes: a head, a body, a request that waits for the previous response, discarded
data, or another protocol."""


class BoundedHttpProtocol(SlowReaderMixin, HttpToolsProtocol):
    """HTTP/1.1 for untrusted clients."""

    websocket_paths: frozenset[bytes] = frozenset()
    """Paths of WebSocket endpoints. Elsewhere, requests for an upgrade are answered over HTTP."""

    _state = _HEAD
    _timer: asyncio.TimerHandle | None = None
    _partial: bytearray
    """The start of a head whose end has not arrived."""
    _held = b""
    """Bytes that the client sent before the previous response was complete."""
    _left = 0
    """Bytes of the body that have not arrived, or that may still be discarded."""
    _received = 0
    """Bytes of the body that have arrived."""
    _chunks: ChunkedBody | None = None
    _framing: Framing = BODILESS
    _head = b""
    """The head that is being parsed or rejected."""
    _is_begun = False
    """True once the application handles the request."""
    _refusal: RefusedError | None = None
    _is_websocket = False
    _is_half_closed = False
    """True once the client has shut down its sending side."""
    _keeps_alive = True

    def is_streamed(self) -> bool:
        """Return True if the application limits this request's body; called after the head."""
        return False

    def connection_made(self, transport: Any) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._partial, self._reader = bytearray(), SlowReaderWatch()
        self._set_timer(limits.HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the resources of the connection."""
        self._clear_timer()
        self._reader.end()
        self._partial, self._held = bytearray(), b""
        super().connection_lost(exc)
        # These form cycles, and the garbage collector runs rarely.
        self.cycle = self._refusal = self._chunks = None  # type: ignore[assignment]

    def eof_received(self) -> bool:  # type: ignore[override]
        """Handle a half-close by the client; return True to keep the connection for a response."""
        self._is_half_closed = True
        return self._answers_half_closed()

    def _answers_half_closed(self) -> bool:
        """Prepare the pending response to a half-closed client; return False if there is none."""
        if self.cycle is None or not is_owed_an_answer(self.cycle):
            return False
        self.cycle.transport = cast("Any", HalfClosedTransport(self.transport, self._end_stream))
        return True

    def _end_stream(self) -> None:
        if is_stream(self.cycle):
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; answer invalid requests with an error."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            while data:
                data = self._read(data)
        except RefusedError as error:
            self._refuse(error)

    def _read(self, data: bytes) -> bytes:
        """Process the bytes that belong to the current state, and return the rest."""
        if self._state == _HEAD:
            return self._read_head(data)
        if self._state == _LENGTH:
            return self._read_length(data)
        if self._state == _CHUNKS:
            return self._read_chunks(data)
        if self._state == _ANSWER:
            self._hold(data)
        elif self._state == _WEBSOCKET:
            cast("asyncio.Protocol", self.transport.get_protocol()).data_received(data)
        else:
            self._left -= len(data)
            if self._left < 0:
                self.transport.abort()
        return b""

    def _read_head(self, data: bytes) -> bytes:
        if self._partial or data[0] in b"\r\n":
            return self._read_partial_head(data)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._read_partial_head(data)
        if end > limits.MAX_HEAD:
            self._head = data[: end + 2]
            raise HeadTooLargeError(f"The head is larger than {limits.MAX_HEAD} bytes.")
        if self._timer is not None:
            self._clear_timer()
        self._parse(data[: end + 4], ahead=len(data) - end - 4)
        return data[end + 4 :]

    def _read_partial_head(self, data: bytes) -> bytes:
        """Process an incomplete head or leading empty lines, without scanning any byte twice."""
        partial, begun = self._partial, len(self._partial)
        partial += data
        if partial.count(b"\n", begun) != partial.count(b"\r\n", max(0, begun - 1)):
            raise MalformedRequestError("A line of the head does not end with CR LF.")
        if partial[0] in b"\r\n":
            blank = len(partial) - len(partial.lstrip(b"\r\n"))
            if blank > limits.MAX_BLANK:
                raise MalformedRequestError("The request starts with too many empty lines.")
            del partial[: blank - (blank == len(partial) and partial.endswith(b"\r"))]
            begun = 0
        end = partial.find(b"\r\n\r\n", max(0, begun - 3))
        if end > limits.MAX_HEAD or (end < 0 and len(partial) > limits.MAX_HEAD):
            raise HeadTooLargeError(f"The head is larger than {limits.MAX_HEAD} bytes.")
        if end < 0:
            if self._timer is None:
                self._set_timer(limits.HEAD_SECONDS)
            return b""
        self._clear_timer()
        self._partial = bytearray()
        self._parse(bytes(partial[: end + 4]), ahead=len(partial) - end - 4)
        return bytes(partial[end + 4 :])

    def _parse(self, head: bytes, *, ahead: int) -> None:
        """Parse a head, which `ahead` bytes follow, and start the application if it is valid."""
        parser = self.parser or httptools.HttpRequestParser(self)
        self._refusal, self._head, self._is_begun = None, head, False
        self.parser = parser
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.parser = cast("Any", None)  # It cannot parse another head.
        except httptools.HttpParserError as error:
            raise self._refusal or MalformedRequestError(
                f"The head is malformed: {error}."
            ) from error
        if self._refusal is not None:
            raise self._refusal
        if not self._is_begun:
            raise MalformedRequestError("The head is malformed.")
        self._head = b""
        if self._is_websocket:
            self._state = _WEBSOCKET
            self.handle_websocket_upgrade()
        elif self._framing.has_body:
            self.parser = cast("Any", None)
            self._begin_body(ahead)
        else:
            self._end_body()

    def on_headers_complete(self) -> None:
        """Check what the parser does not check, then start the application."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        try:
            check_target(self._head, method, self.url, self.headers)
            self.url = origin_form(self.url)
            if version not in ("1.1", "1.0"):
                raise UnsupportedVersionError(f"HTTP/{version} is not supported; send HTTP/1.1.")
            self._framing = read_framing(self.headers, version=version)
            self._is_websocket = self.parser.should_upgrade() and self._begins_websocket(
                method, version
            )
            if self._framing.length > limits.MAX_BODY and not self.is_streamed():
                raise too_large(self._framing.length)
        except RefusedError as error:
            self._refusal = error
            return
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        super().on_headers_complete()
        self._is_begun = True

    def _begins_websocket(self, method: bytes, version: str) -> bool:
        if not wants_websocket(method, version, self.headers):
            return False
        if path_of(self.url) not in self.websocket_paths:
            return False
        if self._framing.has_body:
            raise MalformedRequestError("A WebSocket handshake must not have a body.")
        return True

    def _should_upgrade(self) -> bool:
        return self._is_websocket

    def on_body(self, body: bytes) -> None:
        """Do nothing: the parser sees no bodies."""

    def on_message_complete(self) -> None:
        """Do nothing: the parser sees heads only."""

    def _begin_body(self, ahead: int) -> None:
        """Start reading a body. Until it is complete, a response must close the connection."""
        cycle = self.cycle
        self._keeps_alive = cycle.keep_alive
        self._received, self._left = 0, self._framing.length
        if 0 < self._left <= ahead:  # It is complete, as for small uploads.
            self._state = _LENGTH
            return
        cycle.keep_alive = False
        cycle.transport = cast("Any", LingeringTransport(self.transport, self.linger))
        if self._framing.is_chunked:
            self._state, self._chunks = _CHUNKS, ChunkedBody()
        else:
            self._state = _LENGTH
        if not self.is_streamed():
            self._set_timer(limits.BODY_SECONDS)

    def _read_length(self, data: bytes) -> bytes:
        piece = data if len(data) <= self._left else data[: self._left]
        self._left -= len(piece)
        self._deliver(piece)
        if not self._left:
            self._end_body()
        return data[len(piece) :]

    def _read_chunks(self, data: bytes) -> bytes:
        assert self._chunks is not None  # noqa: S101 - see `_begin_body`
        content, rest = self._chunks.feed(data)
        self._received += len(content)
        if self._received > limits.MAX_BODY and not self.is_streamed():
            raise too_large(self._received)
        if content:
            self._deliver(content)
        if self._chunks.is_complete:
            self._end_body()
        return rest

    def _deliver(self, content: bytes) -> None:
        cycle = self.cycle
        cycle.body += content
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _end_body(self) -> None:
        """Complete the request. The next one waits for its response."""
        cycle = self.cycle
        if self._timer is not None:
            self._clear_timer()
        if self._state != _HEAD:
            self._chunks = None
            cycle.transport = self.transport
            if not cycle.response_started:
                cycle.keep_alive = self._keeps_alive
        cycle.more_body = False
        cycle.message_event.set()
        self._state = _ANSWER
        if not cycle.keep_alive:
            self._state, self._left = _OVER, limits.LINGER_BYTES

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > limits.MAX_HELD:
            log.info("a client pipelined %d bytes and was disconnected", len(self._held))
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Start with the next request after a response."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._reader.begin(self.transport)
        elif self._state == _ANSWER:
            self._state = _HEAD
            if self._held:
                held, self._held = self._held, b""
                self.data_received(held)
            if self._is_half_closed and not self._answers_half_closed():
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._reader.begin(self.transport)

    def shutdown(self) -> None:
        """Finish the current request, then close; called when the server shuts down."""
        self._keeps_alive = False
        if self._state == _OVER and self.cycle is not None and self.cycle.response_complete:
            self.transport.close()
        else:
            super().shutdown()

    def linger(self) -> None:
        """Start a lingering close, after a response that was sent before the request's end."""
        self._state, self._left = _OVER, limits.LINGER_BYTES
        if self.transport.is_closing():
            return
        self._set_timer(limits.LINGER_SECONDS)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _refuse(self, error: RefusedError) -> None:
        """Answer a request that the application cannot receive, and close the connection."""
        HTTP_REFUSED.labels(code=error.code).inc()
        log.info("a request from %s was rejected: %s", self.client, error)
        cycle, is_started = self.cycle, False
        if self._state != _HEAD:
            is_started, cycle.disconnected = cycle.response_started, True
            cycle.message_event.set()
        self._clear_timer()
        origin = self._origin()
        self._head, self._partial, self._held = b"", bytearray(), b""
        if self.transport.is_closing():
            return
        if is_started:
            self.transport.close()
            self._reader.begin(self.transport)
            return
        path = self.url.partition(b"?")[0] if self._state != _HEAD or self._refusal else b""
        cors = self.app_state.get(CORS)
        self.transport.write(refusal_answer(error, path=path, origin=origin, cors=cors))
        self.linger()

    def _origin(self) -> str | None:
        """Return the `Origin` of the current request, if it has one."""
        if self._state == _HEAD:
            return origin_in(self._head or bytes(self._partial))
        found = (value for name, value in self.headers if name == b"origin")
        return next((value.decode("latin-1") for value in found), None)

    def _set_timer(self, seconds: float) -> None:
        self._clear_timer()
        self._timer = self.loop.call_later(seconds, self._on_timeout)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._state == _OVER:
            self.transport.close()
            self._reader.begin(self.transport)
        elif self._state == _HEAD:
            self._refuse(too_late("head", limits.HEAD_SECONDS))
        else:
            self._refuse(too_late("body", limits.BODY_SECONDS))

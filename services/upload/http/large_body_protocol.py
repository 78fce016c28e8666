"""Read large request bodies past the HTTP parser, one mebibyte at a time.

Through the parser, a body arrives in pieces of 64 KiB. Each piece is copied twice, pauses and
resumes reading, and wakes a task. A body of known length needs no parsing: after its first piece,
the connection is read straight into large blocks. After the last byte, the parser gets it back. The
ASGI contract is kept. Only the messages are larger, and a body may be a `bytearray` that is no
longer modified.
"""

import asyncio
from collections import deque
from typing import cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.http.head import path_of
from shared.http.protocol import BoundedHttpProtocol

UPLOAD, UPLOADS = b"/api/files/upload", b"/api/uploads"
"""Paths that receive files: whole, and resumable."""

BLOCK = 1 << 20
"""Bytes of one buffer. The size amortizes Python's cost per read and suits the blob store."""

MAX_QUEUED_BLOCKS = 2
"""Blocks queued for the application before reading pauses, for each of up to 64 uploads."""

FLUSH_AFTER = 0.2
"""Seconds after which a partial block is delivered, to measure the rate of slow clients."""


class LargeBodies(BoundedHttpProtocol):
    """An HTTP/1.1 protocol that hands its connection to `LargeBody` while a large body arrives."""

    def is_streamed(self) -> bool:
        """Return True for paths that receive files; `upload.body.body` limits their size."""
        path = path_of(self.url)
        return path in (UPLOAD, UPLOADS) or path.startswith(UPLOADS + b"/")

    def on_headers_complete(self) -> None:
        """Prepare a large body once the request head is complete, before the application starts."""
        super().on_headers_complete()
        if self._is_begun and self._framing.length > BLOCK:
            body = LargeBody(self, self.cycle, self._framing.length)
            self.cycle.receive = body.receive  # type: ignore[assignment, method-assign]

    def linger(self) -> None:
        """Reclaim the connection when the response was sent before the end of the body."""
        reader = self.transport.get_protocol()
        if isinstance(reader, LargeBody):
            reader.release()
            self.reclaim_connection()
        super().linger()

    def reclaim_connection(self) -> None:
        """Reclaim the connection from `LargeBody`."""
        self.flow.pause_reading()  # uvloop looks up its protocol only when reading starts.
        self.transport.set_protocol(self)
        self.flow.resume_reading()

    def end_large_body(self) -> None:
        """Reclaim the connection at the end of a body; the next request head follows."""
        self.flow.pause_reading()
        self._left = 0
        self._end_body()
        self.cycle.message_event.clear()  # The last block already carries the end.
        self.reclaim_connection()


class LargeBody(asyncio.BufferedProtocol):
    """The body of one request. It owns the connection from the second piece to the last."""

    def __init__(self, http: LargeBodies, cycle: RequestResponseCycle, size: int) -> None:
        self._http = http
        self._cycle = cycle
        self._receive = cycle.receive
        self._left = size
        """Bytes not yet received."""
        self._is_begun = False
        """True once the application reads the body, so that any 100 Continue has been sent."""
        self._has_connection = False
        self._blocks: deque[bytes | bytearray] = deque()
        """Blocks ready for the application, in order."""
        self._block = bytearray()
        """The block being filled; empty if none is allocated."""
        self._filled = 0
        """Bytes of the block that are filled."""
        self._changed = asyncio.Event()

    async def receive(self) -> Message:
        """Return the next ASGI message."""
        if self._has_connection or self._claim_connection():
            await self._wait()
        if not self._blocks:
            message = cast("Message", await self._receive())
            self._left -= len(message.get("body", b""))
            self._is_begun = True
            return message
        block = self._blocks.popleft()
        if self._has_connection:
            self._http.flow.resume_reading()
        more = self._left > 0 or bool(self._blocks)
        return {"type": "http.request", "body": block, "more_body": more}

    def _claim_connection(self) -> bool:
        """Take over the connection if more of the body will arrive on it."""
        cycle, flow, transport = self._cycle, self._http.flow, self._http.transport
        is_over = cycle.disconnected or cycle.response_complete or transport.is_closing()
        if is_over or not self._is_begun or not cycle.more_body:
            return False
        self._has_connection = True
        if cycle.body:  # Arrived after the first piece was delivered.
            self._left -= len(cycle.body)
            self._blocks.append(cycle.body)
            cycle.body = bytearray()
        cycle.message_event.clear()
        flow.pause_reading()  # uvloop looks up its protocol only when reading starts.
        transport.set_protocol(self)
        flow.resume_reading()
        return True

    async def _wait(self) -> None:
        """Wait until a block is ready or the body has ended."""
        while self._has_connection and not self._blocks:
            self._changed.clear()
            try:
                async with asyncio.timeout(FLUSH_AFTER):
                    await self._changed.wait()
            except TimeoutError:
                self._flush()

    def _flush(self) -> None:
        """Deliver the filled part of the current block."""
        if self._filled:
            self._deliver(self._block[: self._filled])

    def _deliver(self, block: bytearray) -> None:
        self._blocks.append(block)
        self._filled = 0
        self._changed.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer for the next bytes, never larger than the rest of the body."""
        if not self._block:
            self._block = bytearray(min(BLOCK, self._left))
        return memoryview(self._block)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Account for received bytes and deliver the block once it is full."""
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._block):
            self._deliver(self._block)
            self._block = bytearray()
        if not self._left:
            self._flush()
            self.release()
            self._http.end_large_body()
        elif len(self._blocks) >= MAX_QUEUED_BLOCKS:
            self._http.flow.pause_reading()

    def release(self) -> None:
        """Stop reading and free the current block."""
        self._has_connection = False
        self._block = bytearray()  # The garbage collector may free this object minutes later.
        self._filled = 0
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Deliver the received bytes, then report the disconnect."""
        self._flush()
        self.release()
        if self._cycle.response_complete:
            self._blocks.clear()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pause writing while the client does not read the response."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Resume writing once the client reads again."""
        self._http.resume_writing()

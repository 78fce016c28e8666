"""Large bodies, read past the HTTP parser: the application is given a mebibyte at a time.

By way of the parser a body comes in pieces of 64 KiB, each of which is copied twice, stops and
resumes the reading and wakes a task. A body whose length is known need not be parsed: once its
first piece was taken, the connection is read straight into large blocks, and given back to the
parser after exactly so many bytes. What ASGI promises stays as it is; only the messages are larger,
and their bodies may be a `bytearray`, which nobody writes to any more.
"""

import asyncio
from collections import deque
from typing import cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared.http.head import path_of
from shared.http.protocol import BoundedHttpProtocol

UPLOAD, UPLOADS = b"/api/files/upload", b"/api/uploads"
"""Where files come, whole and in pieces."""

BLOCK = 1 << 20
"""Bytes that are read into one buffer: so many that what each costs in Python does not matter, and
as many as the blob store wants at a time."""

WAITING = 2
"""Blocks that wait for the application before the client must wait: each of 64 uploads at once may
have so many."""

FLUSH_AFTER = 0.2
"""Seconds after which the application is given what there is of a block: a slow client is judged by
what came."""


class LargeBodies(BoundedHttpProtocol):
    """HTTP/1.1 that lets go of connections while they bring large bodies."""

    def is_streamed(self) -> bool:
        """Return whether the body is a file's, which `services.upload.body.body` bounds."""
        path = path_of(self.url)
        return path in (UPLOAD, UPLOADS) or path.startswith(UPLOADS + b"/")

    def on_headers_complete(self) -> None:
        """Called when the head of a request is complete; its application has not begun."""
        super().on_headers_complete()
        if self._is_begun and self._framing.length > BLOCK:
            body = LargeBody(self, self.cycle, self._framing.length)
            self.cycle.receive = body.receive  # type: ignore[assignment, method-assign]

    def linger(self) -> None:
        """Close after an answer that came before the end of a body: take the connection back."""
        reader = self.transport.get_protocol()
        if isinstance(reader, LargeBody):
            reader.let_go()
            self.take_back()
        super().linger()

    def take_back(self) -> None:
        """Have the connection again."""
        self.flow.pause_reading()  # uvloop asks whom it reads for only when it begins to read.
        self.transport.set_protocol(self)
        self.flow.resume_reading()

    def end_large_body(self) -> None:
        """Have the connection again after the end of a body: the head of a request comes next."""
        self.flow.pause_reading()
        self._left = 0
        self._end_body()
        self.cycle.message_event.clear()  # The application is given the end with the last block.
        self.take_back()


class LargeBody(asyncio.BufferedProtocol):
    """The body of one request; has the connection from its second piece on until its end."""

    def __init__(self, http: LargeBodies, cycle: RequestResponseCycle, size: int) -> None:
        self._http = http
        self._cycle = cycle
        self._receive = cycle.receive
        self._left = size
        """Bytes that are still to come."""
        self._is_begun = False
        """Whether the application wants it, and the client was told to send it."""
        self._has_connection = False
        self._blocks: deque[bytes | bytearray] = deque()
        """What the application may have, in order."""
        self._block = bytearray()
        """What is being filled; empty if the next is still to be made."""
        self._filled = 0
        """Bytes of it that have come."""
        self._changed = asyncio.Event()

    async def receive(self) -> Message:
        """The next message, as ASGI has it."""
        if self._has_connection or self._take_over():
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

    def _take_over(self) -> bool:
        """Have the connection, if more of the body is to come over it."""
        cycle, flow, transport = self._cycle, self._http.flow, self._http.transport
        is_over = cycle.disconnected or cycle.response_complete or transport.is_closing()
        if is_over or not self._is_begun or not cycle.more_body:
            return False
        self._has_connection = True
        if cycle.body:  # It came since the first piece was taken.
            self._left -= len(cycle.body)
            self._blocks.append(cycle.body)
            cycle.body = bytearray()
        cycle.message_event.clear()
        flow.pause_reading()  # uvloop asks whom it reads for only when it begins to read.
        transport.set_protocol(self)
        flow.resume_reading()
        return True

    async def _wait(self) -> None:
        """Until there is something to give, or nothing more to come."""
        while self._has_connection and not self._blocks:
            self._changed.clear()
            try:
                async with asyncio.timeout(FLUSH_AFTER):
                    await self._changed.wait()
            except TimeoutError:
                self._cut()

    def _cut(self) -> None:
        """Give out what there is of a block."""
        if self._filled:
            self._give(self._block[: self._filled])

    def _give(self, block: bytearray) -> None:
        self._blocks.append(block)
        self._filled = 0
        self._changed.set()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where the next bytes are to go: never more than belong to the body."""
        if not self._block:
            self._block = bytearray(min(BLOCK, self._left))
        return memoryview(self._block)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Called when bytes have come."""
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._block):
            self._give(self._block)
            self._block = bytearray()
        if not self._left:
            self._cut()
            self.let_go()
            self._http.end_large_body()
        elif len(self._blocks) >= WAITING:
            self._http.flow.pause_reading()

    def let_go(self) -> None:
        """Read no more."""
        self._has_connection = False
        self._block = bytearray()  # The collector may find this object only in minutes.
        self._filled = 0
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the client has gone; what it sent is given out before that is told."""
        self._cut()
        self.let_go()
        if self._cycle.response_complete:
            self._blocks.clear()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called when the client does not read what it is told."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Called when it reads again."""
        self._http.resume_writing()

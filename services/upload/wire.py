"""Large bodies, read past the HTTP parser: the application is given a mebibyte at a time.

By way of the parser a body comes in pieces of 64 KiB, each of which is copied twice, stops and
resumes the reading and wakes a task. A body whose length is known need not be parsed: once its
first piece was taken, the connection is read straight into large blocks, and given back to the
parser after exactly so many bytes. What ASGI promises stays as it is; only the messages are larger,
and their bodies may be a `bytearray`, which nobody writes to any more.
"""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import cast

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from services.upload.head import BoundedHead

BLOCK = 1 << 20
"""Bytes that are read into one buffer: so many that what each costs in Python does not matter, and
as many as the blob store wants at a time."""

WAITING = 2
"""Blocks that wait for the application before the client must wait: each of 64 uploads at once may
have so many."""

LINGER = 0.2
"""Seconds after which the application is given what there is of a block: a slow client is judged by
what came."""


class LargeBodies(BoundedHead):
    """HTTP/1.1 that lets go of connections while they bring large bodies."""

    def on_headers_complete(self) -> None:
        """Called when the head of a request is complete; its application has not begun."""
        super().on_headers_complete()
        size = announced(self.headers)
        if size > BLOCK and not self.parser.should_upgrade():
            body = LargeBody(self, self.cycle, size)
            self.cycle.receive = body.receive  # type: ignore[assignment, method-assign]

    def on_response_complete(self) -> None:
        """Called when a request is answered."""
        super().on_response_complete()
        if isinstance(self.transport.get_protocol(), LargeBody):
            self.transport.close()  # The rest of the body would be taken for a request.

    def begin_anew(self) -> None:
        """What comes next is the head of a request."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As uvicorn has it.


def announced(headers: Collection[tuple[bytes, bytes]]) -> int:
    """Bytes that a body is to have; 0 if that is not known for sure."""
    lengths = [value for name, value in headers if name == b"content-length"]
    is_coded = any(name == b"transfer-encoding" for name, _ in headers)
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() and not is_coded else 0


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
                async with asyncio.timeout(LINGER):
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
            self._let_go()
            self._give_back()
        elif len(self._blocks) >= WAITING:
            self._http.flow.pause_reading()

    def _give_back(self) -> None:
        self._cycle.more_body = False
        self._http.flow.pause_reading()
        self._http.begin_anew()
        self._http.transport.set_protocol(self._http)
        self._http.flow.resume_reading()

    def _let_go(self) -> None:
        self._has_connection = False
        self._block = bytearray()  # The collector may find this object only in minutes.
        self._filled = 0
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the client has gone; what it sent is given out before that is told."""
        self._cut()
        self._let_go()
        if self._cycle.response_complete:
            self._blocks.clear()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Called when the client does not read what it is told."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Called when it reads again."""
        self._http.resume_writing()

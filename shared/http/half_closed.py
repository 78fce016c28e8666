"""Answers to clients that send no more: a request that was complete before is answered.

Such a client looks like one that has gone. An answer of a known length is sent all the same. One
without is a stream: it would go on to nobody, and is ended.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def is_owed_an_answer(cycle: RequestResponseCycle) -> bool:
    """Return True if a request is complete, and its answer is not and can be."""
    is_over = cycle.disconnected or cycle.response_complete
    return not (cycle.more_body or is_over or is_stream(cycle))


def is_stream(cycle: RequestResponseCycle) -> bool:
    """Return True if an answer without a known length has begun and goes on."""
    return bool(cycle.chunked_encoding) and not cycle.response_complete


class HalfClosedTransport:
    """Writes like the connection's own transport, and reports each write."""

    __slots__ = ("_on_written", "_write", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport, on_written: Callable[[], None]) -> None:
        """Args:
        on_written: called after each write.
        """
        self._write = transport.write
        self._on_written = on_written
        self.is_closing = transport.is_closing
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Write, then report it."""
        self._write(data)
        self._on_written()

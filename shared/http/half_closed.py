"""Responses to clients that have shut down their sending side.

Such a client looks like one that has disconnected. A complete request still gets its response if
the response has a known length. A response without one is a stream and is ended, because the
client may be gone.
"""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def is_owed_an_answer(cycle: RequestResponseCycle) -> bool:
    """Return True if a request is complete and its response is not, but can be."""
    is_over = cycle.disconnected or cycle.response_complete
    return not (cycle.more_body or is_over or is_stream(cycle))


def is_stream(cycle: RequestResponseCycle) -> bool:
    """Return True if a response without a known length has started and is not complete."""
    return bool(cycle.chunked_encoding) and not cycle.response_complete


class HalfClosedTransport:
    """Writes like the connection's own transport, and reports each write."""

    __slots__ = ("_on_written", "_write", "close", "is_closing")

    def __init__(self, transport: asyncio.Transport, on_written: Callable[[], None]) -> None:
        """Wrap a transport.

        Args:
            on_written: called after each write.
        """
        self._write = transport.write
        self._on_written = on_written
        self.is_closing = transport.is_closing
        self.close = transport.close

    def write(self, data: bytes) -> None:
        """Write data, then call `on_written`."""
        self._write(data)
        self._on_written()

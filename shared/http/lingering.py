"""The transport of a response that is sent before the request's body has arrived."""

import asyncio
from collections.abc import Callable


class LingeringTransport:
    """Writes like the connection's own transport; closing it starts a lingering close."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        """Wrap a transport.

        Args:
            linger: called instead of closing the connection.
        """
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = linger

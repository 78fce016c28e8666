"""The transport of an answer whose request's body is still to come."""

import asyncio
from collections.abc import Callable


class LingeringTransport:
    """Writes like the connection's own transport; closing it begins a lingering close."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        """Args:
        linger: called in place of closing.
        """
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = linger

"""HTTP whose heads, the request line and the headers, are bounded in size and in time.

uvicorn collects headers for as long as they come, and waits for the first for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 65_536
"""Bytes of a head, give or take one read of the socket: the longest `Upload-Metadata`, token and
cookie fit three times."""

HEAD_SECONDS = 20.0
"""Seconds for a head from its first byte, or from the connection: it is sent in one go."""


class BoundedHead(HttpToolsProtocol):
    """Hangs up on a client whose head has no end."""

    _timer: asyncio.TimerHandle | None = None
    _size = 0
    _within = True
    """Whether a head is being read."""

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request, for so long."""
        super().connection_made(transport)
        self._begin()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and wait for the rest; most come whole."""
        super().data_received(data)
        if self._within:
            self._size += len(data)
            if self._size > MAX_HEAD:
                self._hang_up("431 Request Header Fields Too Large", f"more than {MAX_HEAD} bytes")
            elif self._timer is None:
                self._wait()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._end()
        super().on_headers_complete()

    def _begin(self) -> None:
        self._end()
        self._within, self._size = True, 0

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._on_timeout)

    def _end(self) -> None:
        self._within = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._hang_up("408 Request Timeout", f"not complete after {HEAD_SECONDS:g} seconds")

    def _hang_up(self, status: str, why: str) -> None:
        self._end()
        if not self.transport.is_closing():
            body = f"The head of the request is {why}.\n"
            self.transport.write(
                f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            self.transport.close()

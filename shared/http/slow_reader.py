"""Ending connections whose clients do not read what they are sent."""

import asyncio
import logging

from shared.http import limits
from shared.telemetry import HTTP_REFUSED

log = logging.getLogger(__name__)


class SlowReaderWatch:
    """Aborts a connection whose client has read nothing for `STALL_SECONDS`, open or closing."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Watch a client that has something to read, until `end`."""
        self.end()
        unread = transport.get_write_buffer_size()
        if unread:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limits.STALL_SECONDS, self._check, transport, unread)

    def end(self) -> None:
        """Watch no longer: it has read enough, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, transport: asyncio.Transport, before: int) -> None:
        self._timer = None
        if transport.get_write_buffer_size() < before:
            self.begin(transport)
            return
        HTTP_REFUSED.labels(code="reader_stalled").inc()
        peer = transport.get_extra_info("peername")
        log.info("%s has read nothing for %g seconds", peer, limits.STALL_SECONDS)
        transport.abort()

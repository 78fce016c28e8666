"""Ending connections whose clients do not read what they are sent."""

import asyncio
import fcntl
import logging
import struct
import termios

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
        if transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                limits.STALL_SECONDS, self._check, transport, _unread(transport)
            )

    def end(self) -> None:
        """Watch no longer: it has read enough, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, transport: asyncio.Transport, before: int) -> None:
        self._timer = None
        if _unread(transport) < before:
            self.begin(transport)
            return
        HTTP_REFUSED.labels(code="reader_stalled").inc()
        peer = transport.get_extra_info("peername")
        log.info("%s has read nothing for %g seconds", peer, limits.STALL_SECONDS)
        transport.abort()


class SlowReaderMixin(asyncio.Protocol):
    """A protocol that has its client watched while more is written than the client reads."""

    transport: asyncio.Transport
    _reader: SlowReaderWatch

    def pause_writing(self) -> None:
        """Called when the client reads more slowly than it is sent: watch that it does read."""
        super().pause_writing()
        self._reader.begin(self.transport)

    def resume_writing(self) -> None:
        """Called when the client has caught up. A closing connection stays watched."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._reader.end()


def _unread(transport: asyncio.Transport) -> int:
    """Return the bytes that the client has not received: ours, and those in the kernel's queue.

    The kernel takes megabytes and asks for more once a third of them is gone. A client that reads
    a slow line leaves our own bytes alone for minutes meanwhile.
    """
    unread = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError):  # It is closed, or no socket of the kernel's.
        return unread
    return unread + int(struct.unpack("i", queued)[0])

"""Close connections whose clients do not read."""

import asyncio
import fcntl
import logging
import struct
import termios

from shared.http import limits
from shared.telemetry import HTTP_REFUSED

log = logging.getLogger(__name__)


class SlowReaderWatch:
    """Aborts an open or closing connection whose client has read nothing for `STALL_SECONDS`."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Watch a client that has unread data, until `end` is called."""
        self.end()
        if transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                limits.STALL_SECONDS, self._check, transport, _unread(transport)
            )

    def end(self) -> None:
        """Stop watching: the client has caught up or disconnected."""
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
    """A protocol that watches its client while the write buffer is full."""

    transport: asyncio.Transport
    _reader: SlowReaderWatch

    def pause_writing(self) -> None:
        """Start watching, because the client reads more slowly than data is written."""
        super().pause_writing()
        self._reader.begin(self.transport)

    def resume_writing(self) -> None:
        """Stop watching, because the client has caught up, unless the connection is closing."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._reader.end()


def _unread(transport: asyncio.Transport) -> int:
    """Return the bytes that the client has not received, including the kernel's send queue.

    The kernel buffers megabytes and requests more only after a third was sent. Over a slow
    connection, the transport's own buffer can therefore stay unchanged for minutes.
    """
    unread = transport.get_write_buffer_size()
    connection = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except (AttributeError, OSError):  # Closed, or not a kernel socket.
        return unread
    return unread + int(struct.unpack("i", queued)[0])

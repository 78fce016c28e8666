"""A stream detached from its request: only its connection and subscription remain in memory."""

from services.status.api.sse import BYE
from services.status.live.hub import Hub
from services.status.live.streaming_protocols import HandoffProtocol
from services.status.live.subscription import Subscription
from services.status.live.update import Batch, chunk

LAST_CHUNKS = chunk(BYE) + chunk(b"")


class DetachedStream(HandoffProtocol):
    """Writes to a caught-up stream until its client disconnects."""

    __slots__ = ("_hub", "_is_full", "_subscription")

    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self._hub = hub
        self._subscription = subscription
        self._is_full = False

    def write(self, batch: Batch) -> bool:
        """Write immediately; return False if the client reads too slowly.

        Nothing is written to a closing connection.
        """
        if self._is_full:
            return False
        if not self.transport.is_closing():
            self.transport.write(batch.chunk)
        return True

    def end(self) -> None:
        """Send `bye` to a client that keeps up, and close."""
        if self._is_full:
            self.abort()
        elif not self.transport.is_closing():
            self.transport.write(LAST_CHUNKS)
            self.transport.close()

    def abort(self) -> None:
        """Close immediately, and discard unsent data."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Called when the send buffer is full."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Called when the send buffer has drained."""
        self._is_full = False
        self._subscription.drain(self._hub.last_batch.text)

    def connection_lost(self, error: Exception | None) -> None:
        """Called when the client has disconnected."""
        super().connection_lost(error)
        self._hub.release(self._subscription)
        del self._subscription  # It references this object.

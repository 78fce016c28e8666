"""A stream without a request: nothing is left of it but its connection and its subscription."""

from services.status.api.sse import BYE
from services.status.live.hub import Hub
from services.status.live.streaming_protocols import HandoffProtocol
from services.status.live.subscription import Subscription
from services.status.live.update import Batch, chunk

LAST_CHUNKS = chunk(BYE) + chunk(b"")


class DetachedStream(HandoffProtocol):
    """Tells a stream that has caught up, until its client goes."""

    __slots__ = ("_hub", "_is_full", "_subscription")

    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self._hub = hub
        self._subscription = subscription
        self._is_full = False

    def write(self, batch: Batch) -> bool:
        """Write at once, unless the client reads too slowly; to one that has gone nothing."""
        if self._is_full:
            return False
        if not self.transport.is_closing():
            self.transport.write(batch.chunk)
        return True

    def end(self) -> None:
        """Say goodbye to a client that reads, and close."""
        if self._is_full:
            self.abort()
        elif not self.transport.is_closing():
            self.transport.write(LAST_CHUNKS)
            self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever the client has yet to read."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """Called when the client reads more slowly than it is told."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Called when the client has caught up."""
        self._is_full = False
        self._subscription.drain(self._hub.last_batch.text)

    def connection_lost(self, error: Exception | None) -> None:
        """Called when the client has gone."""
        super().connection_lost(error)
        self._hub.release(self._subscription)
        del self._subscription  # It holds us.

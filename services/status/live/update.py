"""Updates and batches of updates, serialised once however many subscribers receive them."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b

from websockets.frames import Frame, Opcode

from services.status.live.cursor import Place
from services.status.projection.projection import Status


class Update:
    """A state of a file, serialised at most once however many subscribers receive it."""

    withdraws = False
    """True if the file is no longer visible to the reader."""

    def __init__(
        self,
        status: Status,
        *,
        place: Place | None = None,
        before: Status | None = None,
        reader: str | None = None,
    ) -> None:
        """Create an update.

        Args:
            status: the state of the file.
            place: position in the log of the event that led to the state. None for a snapshot, and
                for progress, which may be skipped.
            before: the previous state, if that determines who may see the update: a deleted file
                has no owner.
            reader: the only reader who receives the update; None for everyone who may see the file.
        """
        self.status = status
        self.place = place
        self.audience = before or status
        self.reader = reader
        self._message: tuple[str | None, str] | None = None

    @cached_property
    def full(self) -> bytes:
        """The status document, with its history, as JSON."""
        return self.status.model_dump_json().encode()

    @cached_property
    def summary(self) -> bytes:
        """The status document without its history, as JSON."""
        return self.status.model_dump_json(exclude={"history"}).encode()

    @cached_property
    def frame(self) -> bytes:
        """The summary as an unnamed Server-Sent Event."""
        return b"data: " + self.summary + b"\n\n"

    def message(self, cursor: str | None) -> str:
        """Return the summary as a WebSocket message; the same object for the same cursor."""
        if self._message is None or self._message[0] != cursor:
            tail = "" if cursor is None else f',"cursor":"{cursor}"'
            text = f'{{"type":"status","status":{self.summary.decode()}{tail}}}'
            self._message = (cursor, text)
        return self._message[1]

    @cached_property
    def etag(self) -> str:
        """The entity tag of the document (RFC 9110)."""
        return f'"{blake2b(self.full, digest_size=8).hexdigest()}"'


class Withdrawal(Update):
    """A notice that a file is no longer shared with a reader. It carries the file id only."""

    withdraws = True

    @cached_property
    def frame(self) -> bytes:
        """The notice as a named Server-Sent Event."""
        return b'event: withdrawn\ndata: {"file_id":"%b"}\n\n' % self.status.file_id.encode()

    def message(self, cursor: str | None) -> str:
        """Return the notice as a WebSocket message."""
        tail = "" if cursor is None else f',"cursor":"{cursor}"'
        return f'{{"type":"withdrawn","file_id":"{self.status.file_id}"{tail}}}'


def chunk(body: bytes) -> bytes:
    """Return a chunk of a chunked response body (RFC 9112). An empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class Batch:
    """States and the cursor after them. A batch without states is a heartbeat."""

    def __init__(self, updates: Sequence[Update], cursor: str | None) -> None:
        self.updates = updates
        self.cursor = cursor

    @cached_property
    def events(self) -> bytes:
        """The batch as Server-Sent Events."""
        identity = b"" if self.cursor is None else b"id: " + self.cursor.encode() + b"\n"
        if not self.updates:
            # An event without data: a browser stores its id and dispatches nothing.
            return b": heartbeat\n" + identity + b"\n"
        *others, last = (update.frame for update in self.updates)
        return b"".join((*others, identity, last))

    @cached_property
    def chunk(self) -> bytes:
        """The events as a chunk of a response body."""
        return chunk(self.events)

    @cached_property
    def messages(self) -> list[str]:
        """The batch as WebSocket messages."""
        if not self.updates:
            return [f'{{"type":"heartbeat","cursor":"{self.cursor}"}}']
        *others, last = self.updates
        return [*(update.message(None) for update in others), last.message(self.cursor)]

    @cached_property
    def frames(self) -> bytes:
        """The messages as WebSocket frames (RFC 6455), which are the same for all connections."""
        return b"".join(
            Frame(Opcode.TEXT, message.encode()).serialize(mask=False) for message in self.messages
        )


class Batches(dict[tuple[Update, ...], Batch]):
    """The batches of one delivery: subscribers that receive the same states share one."""

    def __init__(self, cursor: str) -> None:
        super().__init__()
        self.cursor = cursor

    def __missing__(self, updates: tuple[Update, ...]) -> Batch:
        self[updates] = batch = Batch(updates, self.cursor)
        return batch


def adds_to(status: Status, told: Status) -> bool:
    """Return True if a state adds something to the known one. Histories do not count."""
    if status.position != told.position:
        return status.position > told.position
    return status.model_copy(update={"history": told.history}) != told

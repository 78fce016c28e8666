"""A state that is told, and those told in one go: written down once, however many follow them."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b

from websockets.frames import Frame, Opcode

from services.status.live.cursor import Place
from services.status.projection.projection import Status


class Update:
    """A state of a file, serialised at most once however many follow it."""

    withdraws = False
    """Whether it tells that the file may be known of no longer."""

    def __init__(
        self,
        status: Status,
        *,
        place: Place | None = None,
        before: Status | None = None,
        reader: str | None = None,
    ) -> None:
        """Args:
        place: where the event stands that led to the state; None if the state is a snapshot, or
            one that may be left out: progress.
        before: the state before, if it is what tells who may know: a deleted file has no owner.
        reader: whom alone it is told; None for all who may know.
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
        """The summary as a message of the WebSocket; the same object for the same cursor."""
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
    """A file is no longer shared with somebody, who is told its id and nothing else."""

    withdraws = True

    @cached_property
    def frame(self) -> bytes:
        """As a Server-Sent Event with a name."""
        return b'event: withdrawn\ndata: {"file_id":"%b"}\n\n' % self.status.file_id.encode()

    def message(self, cursor: str | None) -> str:
        """As a message of the WebSocket."""
        tail = "" if cursor is None else f',"cursor":"{cursor}"'
        return f'{{"type":"withdrawn","file_id":"{self.status.file_id}"{tail}}}'


def chunk(body: bytes) -> bytes:
    """A part of an answer's body (RFC 9112); an empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class Batch:
    """States, and the cursor that holds once all of them are told; without states a heartbeat."""

    def __init__(self, updates: Sequence[Update], cursor: str | None) -> None:
        self.updates = updates
        self.cursor = cursor

    @cached_property
    def events(self) -> bytes:
        """As Server-Sent Events."""
        identity = b"" if self.cursor is None else b"id: " + self.cursor.encode() + b"\n"
        if not self.updates:
            # An event without data: a browser notes the id, and tells nobody.
            return b": heartbeat\n" + identity + b"\n"
        *others, last = (update.frame for update in self.updates)
        return b"".join((*others, identity, last))

    @cached_property
    def chunk(self) -> bytes:
        """The events as a part of an answer's body."""
        return chunk(self.events)

    @cached_property
    def messages(self) -> list[str]:
        """As messages of the WebSocket."""
        if not self.updates:
            return [f'{{"type":"heartbeat","cursor":"{self.cursor}"}}']
        *others, last = self.updates
        return [*(update.message(None) for update in others), last.message(self.cursor)]

    @cached_property
    def frames(self) -> bytes:
        """The messages as frames (RFC 6455): a server's are alike for all its connections."""
        return b"".join(
            Frame(Opcode.TEXT, message.encode()).serialize(mask=False) for message in self.messages
        )


class Batches(dict[tuple[Update, ...], Batch]):
    """The batches of one moment: those who are told the same states share one."""

    def __init__(self, cursor: str) -> None:
        super().__init__()
        self.cursor = cursor

    def __missing__(self, updates: tuple[Update, ...]) -> Batch:
        self[updates] = batch = Batch(updates, self.cursor)
        return batch


def adds_to(status: Status, told: Status) -> bool:
    """Whether a state tells something beside the one that was told; streams tell no histories."""
    if status.position != told.position:
        return status.position > told.position
    return status.model_copy(update={"history": told.history}) != told

"""The messages of the live protocol, the same over SSE and WebSocket, and the close codes.

Over a WebSocket a message is a JSON object. As Server-Sent Events the states are unnamed events
whose data is the status document, the other messages are events named by their type, and a cursor
is the event's id.
"""

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.status.api.filters import MAX_IDS, parse_label
from services.status.live.filter import Filter
from services.status.projection.projection import FileState, Status
from services.status.store.access import Visibility
from shared.events.ids import canonical_id

FINAL_CODES = 4500
"""From here on, sending the same again does not help; nor does it after a 1003."""


class CloseCode(IntEnum):
    """Why the service closed a WebSocket."""

    meaning: str

    GOING_AWAY = 1001, "The pod shuts down (RFC 6455)."
    BINARY = 1003, "The client sent a binary message; this protocol has text only (RFC 6455)."
    TRY_AGAIN_LATER = (
        1013,
        "The pod does not know the present yet, or has as many connections as it may have.",
    )
    SLOW = 4000, "The client did not read what it was sent. The cursor loses nothing."
    EXPIRED = 4001, "The token has expired or was revoked. A new one and the cursor lose nothing."
    NOTHING_SUBSCRIBED = 4500, "The client did not say within 10 s what it wants to follow."
    BAD_MESSAGES = 4501, "The client sent ten messages that are no subscriptions."

    def __new__(cls, value: int, meaning: str) -> "CloseCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    @property
    def reconnects(self) -> bool:
        """Whether it helps to connect again."""
        return self < FINAL_CODES and self is not CloseCode.BINARY


class Subscribe(BaseModel):
    """The client says what it follows from now on, in place of what it followed before."""

    type: Literal["subscribe"]
    ids: list[str] | None = Field(default=None, max_length=MAX_IDS, description="File ids.")
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = Field(default=None, description="`key:value`")
    status: FileState | None = None
    cursor: str | None = Field(
        default=None, description="The last cursor that the client was given, if it comes back."
    )

    def to_filter(self, visible_to: Visibility) -> Filter:
        """What is followed, of what may be known of.

        Raises:
            BadParameterError: the label is none.
        """
        return Filter(
            ids=None if self.ids is None else frozenset(map(canonical_id, self.ids)),
            owner=self.owner,
            batch_id=self.batch_id and canonical_id(self.batch_id),
            label=parse_label(self.label),
            status=self.status,
            visible_to=visible_to,
        )


Complete = Annotated[
    bool,
    Field(
        description="Whether all that is followed is told from here. If not (nothing in particular"
        " is followed, or more than 1,000 files are), what is missing is listed by `/api/files`."
    ),
]


class Subscribed(BaseModel):
    """The subscription holds. What was missed follows, or without a cursor the present states."""

    type: Literal["subscribed"] = "subscribed"
    complete: Complete = True


class Reset(BaseModel):
    """The cursor is too old: forget what you know; the present states follow."""

    type: Literal["reset"] = "reset"
    complete: Complete = True


class StatusMessage(BaseModel):
    """The state of a file. Of two states the one with the greater `position` is the later one."""

    type: Literal["status"] = "status"
    status: Status = Field(description="The status document, without its history.")
    cursor: str | None = Field(
        default=None, description="Up to here everything is told; give it back to go on from here."
    )


class Withdrawn(BaseModel):
    """The file is no longer shared with the subscriber: forget what you know of it."""

    type: Literal["withdrawn"] = "withdrawn"
    file_id: str
    cursor: str | None = Field(default=None, description="As with a state.")


class Heartbeat(BaseModel):
    """The connection lives, and up to this cursor everything is told."""

    type: Literal["heartbeat"] = "heartbeat"
    cursor: str


class Fault(BaseModel):
    """What the client sent cannot be done; what it followed before it still follows."""

    type: Literal["error"] = "error"
    code: str
    message: str


class Bye(BaseModel):
    """The pod shuts down: connect again and give the last cursor."""

    type: Literal["bye"] = "bye"

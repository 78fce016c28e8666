"""Messages of the live protocol, common to SSE and WebSocket, and the close codes.

A WebSocket message is a JSON object. In Server-Sent Events, states are unnamed events with the
status document as data. Other messages are events named by their type. The cursor is the event's
id.
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
"""From this code on, repeating the same request does not help. Neither does it after 1003."""


class CloseCode(IntEnum):
    """The reasons for which the service closes a WebSocket."""

    meaning: str

    GOING_AWAY = 1001, "The pod is shutting down (RFC 6455)."
    BINARY = 1003, "The client sent a binary message; the protocol is text only (RFC 6455)."
    TRY_AGAIN_LATER = (
        1013,
        "The pod is still catching up, or has reached its limit of connections.",
    )
    SLOW = 4000, "The client read too slowly. Reconnect with the cursor to miss nothing."
    EXPIRED = 4001, "The token expired or was revoked. Reconnect with a new one and the cursor."
    NOTHING_SUBSCRIBED = 4500, "The client sent no subscription within 10 s."
    BAD_MESSAGES = 4501, "The client sent ten invalid messages."

    def __new__(cls, value: int, meaning: str) -> "CloseCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    @property
    def reconnects(self) -> bool:
        """True if the client should reconnect."""
        return self < FINAL_CODES and self is not CloseCode.BINARY


class Subscribe(BaseModel):
    """Replaces the client's subscription."""

    type: Literal["subscribe"]
    ids: list[str] | None = Field(default=None, max_length=MAX_IDS, description="File ids.")
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = Field(default=None, description="`key:value`")
    status: FileState | None = None
    cursor: str | None = Field(
        default=None, description="The last cursor that the client received, to resume from there."
    )

    def to_filter(self, visible_to: Visibility) -> Filter:
        """Return the filter of the subscription, limited to what the user may see.

        Raises:
            BadParameterError: the label has no colon.
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
        description="True if the stream delivers all matching states from here on. If false (no"
        " filter, or more than 1,000 matching files), list the others with `/api/files`."
    ),
]


class Subscribed(BaseModel):
    """The subscription is active. Missed states follow; without a cursor, the current states."""

    type: Literal["subscribed"] = "subscribed"
    complete: Complete = True


class Reset(BaseModel):
    """The cursor is too old: discard all known states. The current states follow."""

    type: Literal["reset"] = "reset"
    complete: Complete = True


class StatusMessage(BaseModel):
    """The state of a file. The state with the greater `position` is the later one."""

    type: Literal["status"] = "status"
    status: Status = Field(description="The status document, without its history.")
    cursor: str | None = Field(
        default=None,
        description="Everything up to this point has been sent. Send it back to resume from here.",
    )


class Withdrawn(BaseModel):
    """The file is no longer shared with the subscriber: discard what you know of it."""

    type: Literal["withdrawn"] = "withdrawn"
    file_id: str
    cursor: str | None = Field(default=None, description="As in a `status` message.")


class Heartbeat(BaseModel):
    """The connection is alive, and everything up to this cursor has been sent."""

    type: Literal["heartbeat"] = "heartbeat"
    cursor: str


class Fault(BaseModel):
    """The client's message was rejected. Its previous subscription stays active."""

    type: Literal["error"] = "error"
    code: str
    message: str


class Bye(BaseModel):
    """The pod is shutting down: reconnect with the last cursor."""

    type: Literal["bye"] = "bye"

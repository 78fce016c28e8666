"""The events that Waybill records, one frozen class each, in a CloudEvents 1.0 envelope.

An event's `id` is derived from its content (`file_id:run:attempt:type[:seq]`), so that repeats can
be recognized. Writers fill every field; readers ignore unknown fields and types. Only
`file.uploaded`, `.requeued`, `.shared`, `.unshared` and `.commanded` contain names of people or
files, or labels.
"""

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import (
    Field,
)

from shared.events.facts import (
    Count,
    DeadData,
    Fact,
    Failure,
    Progress,
    Reader,
    Result,
    Source,
    Storable,
    assembled,
)
from shared.events.ids import file_id_age as file_id_age
from shared.events.ids import first_file_id as first_file_id
from shared.events.ids import new_file_id as new_file_id
from shared.events.moments import EventTime as EventTime
from shared.events.moments import Timestamp as Timestamp
from shared.events.moments import utc_now as utc_now
from shared.events.storable import MAX_INT


class EventType(StrEnum):
    """The types of events."""

    UPLOADED = "file.uploaded"
    REQUEUED = "file.requeued"
    PROCESSING = "file.processing"
    PROGRESSED = "file.progressed"
    RETRYING = "file.retrying"
    COMPLETED = "file.completed"
    FAILED = "file.failed"
    CANCELLED = "file.cancelled"
    DELETED = "file.deleted"
    CANCEL_REQUESTED = "file.cancel_requested"
    SHARED = "file.shared"
    UNSHARED = "file.unshared"
    COMMANDED = "file.commanded"
    RETRY_SCHEDULED = "file.retry_scheduled"
    WEBHOOK_SCHEDULED = "file.webhook_scheduled"
    DEAD = "file.dead"


SCHEMAS = {kind: f"urn:waybill:{kind.value}:1" for kind in EventType}
"""The `dataschema` of each event type. This code writes and reads version 1 of each."""


class Rank(IntEnum):
    """The position of an event within one attempt."""

    QUEUED = 0
    PROCESSING = 1
    PROGRESSED = 2
    RETRYING = 3
    TERMINAL = 4


Ordinal = Annotated[int, Field(ge=1, le=MAX_INT)]
"""The number of a run, an attempt or a report."""


class RunData(Fact):
    """Data of an event that belongs to one run of a file. A manual retry starts the next run."""

    run: Ordinal = 1


class AttemptData(RunData):
    """Data of an event that belongs to one attempt within a run."""

    attempt: Ordinal
    max_attempts: Ordinal


class UploadedData(RunData, Source):
    charset: str | None = Field(default=None, description="the encoding of a text file, if known")
    name: str
    tenant: str | None = None
    owner: str | None = None
    labels: Annotated[dict[str, str], Storable] = Field(default_factory=dict)
    batch_id: str | None = None


class RequeuedData(UploadedData):
    created_at: EventTime
    reason: str


class ProcessingData(AttemptData):
    pod: str
    time_limit: float | None = Field(
        default=None, gt=0, description="time limit of the attempt in seconds"
    )


class ProgressedData(AttemptData):
    seq: Ordinal = Field(description="increases within the attempt")
    phase: str
    progress: Progress
    message: str | None = None


class RetryingData(AttemptData):
    error: Failure
    next_attempt_at: EventTime


class CompletedData(AttemptData):
    result: Result


class FailedData(AttemptData):
    error: Failure
    progress: Progress | None = None


class CancelledData(AttemptData):
    reason: str


class DeletedData(RunData):
    reason: str


class CancelRequestedData(RunData):
    reason: str
    ended_runs: Count = Field(default=0, description="runs of the file that have ended")


class CommandedData(Fact):
    """A command that a user or API client gave about a file."""

    command_id: str = Field(description="unique id of the command")
    command: str = Field(description="`cancel`, `retry`, `delete`, `share`, `unshare` or `redrive`")
    by: str | None = Field(description="the caller; null without authentication")
    tenant: str | None = Field(description="the caller's tenant, not the file's")
    api_key: str | None = Field(description="the id of the caller's API key, if one was used")
    reason: str
    reader: str | None = Field(default=None, description="the user to share the file with")


class RetryScheduledData(AttemptData):
    """A scheduled retry: `attempt` is the next attempt, which starts at `due_at` or later."""

    source: Source
    due_at: EventTime
    error: Failure
    pipeline: str | None = Field(default=None, description="the plugin; null: built-in pipeline")
    returned: Count = Field(
        default=0,
        description="attempts that were returned: they have numbers but do not count against the "
        "file's attempts",
    )
    postponed: int = Field(
        default=0,
        ge=0,
        description="consecutive returned attempts, up to now, caused by a lack of resources such "
        "as a full disk",
    )
    crash: str | None = Field(
        default=None,
        description="how the worker process died in the last attempt that counted: the name of a "
        "signal, or its exit code",
    )


class WebhookScheduledData(RunData):
    """A scheduled delivery: `attempt` is the next attempt, which starts at `due_at` or later."""

    attempt: Ordinal
    webhook_id: str
    event: str = Field(description="type of the event to deliver")
    occurred_at: EventTime
    error: Failure | None = None
    due_at: EventTime


class Event(Fact):
    """The CloudEvents 1.0 envelope, in structured mode."""

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: EventType
    subject: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:~@+-]{0,199}$",
        description="the file_id",
    )
    time: EventTime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str

    @property
    def file_id(self) -> str:
        return self.subject

    @classmethod
    def of(cls, file_id: str, data: Any, *, source: str, time: datetime | None = None) -> Self:
        """Return an event about a file with this data. The event's id is derived from the data.

        Args:
            file_id: the event's subject.
            data: an instance of the class of `data`.
            source: the component that publishes the event, such as `/projector`.
            time: when it happened; by default now.
        """
        kind: EventType = cls.model_fields["type"].default
        fields = vars(data)  # For a missing field, pydantic's getattr raises an exception.
        identity = f"{file_id}:{fields.get('run') or 0}:{fields.get('attempt') or 0}:{kind.value}"
        for name in ("seq", "command_id", "webhook_id"):
            if name in fields:
                identity += f":{fields[name]}"
        return assembled(
            cls,
            {
                "specversion": "1.0",
                "id": identity,
                "source": source,
                "type": kind,
                "subject": file_id,
                "time": time or utc_now(),
                "datacontenttype": "application/json",
                "dataschema": SCHEMAS[kind],
                "data": data,
            },
        )

    def to_json(self) -> bytes:
        """Return the event as the value of a Kafka record."""
        return self.__pydantic_serializer__.to_json(self)


class FileUploaded(Event):
    """A file was uploaded and stored, and waits for processing."""

    type: Literal[EventType.UPLOADED] = EventType.UPLOADED
    data: UploadedData


class FileRequeued(Event):
    """A file was queued again, as its next run."""

    type: Literal[EventType.REQUEUED] = EventType.REQUEUED
    data: RequeuedData


class FileProcessing(Event):
    """A processor started an attempt."""

    type: Literal[EventType.PROCESSING] = EventType.PROCESSING
    data: ProcessingData


class FileProgressed(Event):
    """An attempt made progress."""

    type: Literal[EventType.PROGRESSED] = EventType.PROGRESSED
    data: ProgressedData


class FileRetrying(Event):
    """An attempt failed, and another one is scheduled."""

    type: Literal[EventType.RETRYING] = EventType.RETRYING
    data: RetryingData


class FileCompleted(Event):
    """Processing completed, and the results are stored."""

    type: Literal[EventType.COMPLETED] = EventType.COMPLETED
    data: CompletedData


class FileFailed(Event):
    """Processing failed, and no further attempt follows."""

    type: Literal[EventType.FAILED] = EventType.FAILED
    data: FailedData


class FileCancelled(Event):
    """Processing was cancelled on request."""

    type: Literal[EventType.CANCELLED] = EventType.CANCELLED
    data: CancelledData


class FileDeleted(Event):
    """The file, its results and its personal data were deleted."""

    type: Literal[EventType.DELETED] = EventType.DELETED
    data: DeletedData


class FileCancelRequested(Event):
    """A user requested to cancel the processing of a file."""

    type: Literal[EventType.CANCEL_REQUESTED] = EventType.CANCEL_REQUESTED
    data: CancelRequestedData


class FileShared(Event):
    """The file was shared with another user of the tenant."""

    type: Literal[EventType.SHARED] = EventType.SHARED
    data: Reader


class FileUnshared(Event):
    """The file is no longer shared with a user."""

    type: Literal[EventType.UNSHARED] = EventType.UNSHARED
    data: Reader


class FileCommanded(Event):
    """A user or API client gave a command about a file. Other events record its outcome."""

    type: Literal[EventType.COMMANDED] = EventType.COMMANDED
    data: CommandedData


class FileRetryScheduled(Event):
    """An attempt waits in a retry topic until it is due."""

    type: Literal[EventType.RETRY_SCHEDULED] = EventType.RETRY_SCHEDULED
    data: RetryScheduledData


class FileWebhookScheduled(Event):
    """A webhook delivery waits in a retry topic until it is due."""

    type: Literal[EventType.WEBHOOK_SCHEDULED] = EventType.WEBHOOK_SCHEDULED
    data: WebhookScheduledData


class FileDead(Event):
    """A record was unreadable or its processing failed permanently; it is kept with the reason."""

    type: Literal[EventType.DEAD] = EventType.DEAD
    subject: str = Field(description="the file_id, or the record's key if it is not one")
    data: DeadData


LifecycleEvent = (
    FileUploaded
    | FileRequeued
    | FileProcessing
    | FileProgressed
    | FileRetrying
    | FileCompleted
    | FileFailed
    | FileCancelled
    | FileDeleted
    | FileCancelRequested
)
"""The events about the processing of a file."""

AccessEvent = FileShared | FileUnshared
"""The events about the users with whom a file is shared."""

StatusEvent = LifecycleEvent | AccessEvent
"""The events that the projection folds into a file's status."""

AnyEvent = StatusEvent | FileCommanded | FileRetryScheduled | FileWebhookScheduled | FileDead

_OF_STATUS = frozenset(StatusEvent.__args__)


def is_status_event(event: AnyEvent) -> TypeGuard[StatusEvent]:
    """Return True if an event is a `StatusEvent`. `isinstance` would test class after class."""
    return type(event) in _OF_STATUS


EVENT_CLASSES: dict[EventType, type[Event]] = {
    cls.model_fields["type"].default: cls for cls in AnyEvent.__args__
}

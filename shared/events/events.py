"""The facts Waybill records, one frozen class each, in a CloudEvents 1.0 envelope.

An event's `id` follows from what it says (`file_id:run:attempt:type[:seq]`), so that a repeat is
recognised as one. Writers fill every field; readers ignore fields and types that they do not know.
Names of people and files, and labels, are in `file.uploaded`, `.requeued`, `.shared`, `.unshared`
and `.commanded` only.
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
    """What can happen to a file."""

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
"""The `dataschema` of each event: this code writes and reads version 1 of each."""


class Rank(IntEnum):
    """Where an event stands within one attempt at one run of a file."""

    QUEUED = 0
    PROCESSING = 1
    PROGRESSED = 2
    RETRYING = 3
    TERMINAL = 4


Ordinal = Annotated[int, Field(ge=1, le=MAX_INT)]
"""The number of a run, an attempt or a report."""


class RunData(Fact):
    """Every event belongs to one run of a file; a manual retry starts the next run."""

    run: Ordinal = 1


class AttemptData(RunData):
    """An event of the processor belongs to one attempt at a run."""

    attempt: Ordinal
    max_attempts: Ordinal


class UploadedData(RunData, Source):
    charset: str | None = Field(default=None, description="the encoding of a text, if it is known")
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
        default=None, gt=0, description="seconds that the attempt may take"
    )


class ProgressedData(AttemptData):
    seq: Ordinal = Field(description="counts up within the attempt")
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
    """Somebody asked for something to be done with a file."""

    command_id: str = Field(description="tells two alike apart")
    command: str = Field(description="`cancel`, `retry`, `delete`, `share`, `unshare` or `redrive`")
    by: str | None = Field(description="who, if anybody is asked who they are")
    tenant: str | None = Field(description="theirs, not the file's")
    api_key: str | None = Field(description="the id of the key by which they asked, if it was one")
    reason: str
    reader: str | None = Field(default=None, description="with whom the file is to be shared")


class RetryScheduledData(AttemptData):
    """Work that waits: `attempt` is the one to come, not before `due_at`."""

    source: Source
    due_at: EventTime
    error: Failure
    pipeline: str | None = Field(default=None, description="a plugin's, or none: the built-in one")
    returned: Count = Field(
        default=0,
        description="attempts that were handed back: they have numbers, and cost the file nothing",
    )
    postponed: int = Field(
        default=0,
        ge=0,
        description="of those, the last ones in a row that a full disk or the like has cost",
    )
    crash: str | None = Field(
        default=None,
        description="how the worker process died over the last attempt that counted: the name of a "
        "signal, or its exit code",
    )


class WebhookScheduledData(RunData):
    """A message to a server that waits: `attempt` is the one to come, not before `due_at`."""

    attempt: Ordinal
    webhook_id: str
    event: str = Field(description="type of the event that is told")
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
        """Record that `data` happened to a file; the id follows from the data."""
        kind: EventType = cls.model_fields["type"].default
        told = vars(data)  # A field that is not there costs pydantic's getattr an exception.
        identity = f"{file_id}:{told.get('run') or 0}:{told.get('attempt') or 0}:{kind.value}"
        for name in ("seq", "command_id", "webhook_id"):
            if name in told:
                identity += f":{told[name]}"
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
        """The event as it stands in Kafka."""
        return self.__pydantic_serializer__.to_json(self)


class FileUploaded(Event):
    """A file is stored and waits to be processed."""

    type: Literal[EventType.UPLOADED] = EventType.UPLOADED
    data: UploadedData


class FileRequeued(Event):
    """A file is to be processed once more, as its next run."""

    type: Literal[EventType.REQUEUED] = EventType.REQUEUED
    data: RequeuedData


class FileProcessing(Event):
    """A processor has begun an attempt."""

    type: Literal[EventType.PROCESSING] = EventType.PROCESSING
    data: ProcessingData


class FileProgressed(Event):
    """An attempt has come further."""

    type: Literal[EventType.PROGRESSED] = EventType.PROGRESSED
    data: ProgressedData


class FileRetrying(Event):
    """An attempt failed and another one is scheduled."""

    type: Literal[EventType.RETRYING] = EventType.RETRYING
    data: RetryingData


class FileCompleted(Event):
    """The work is done and its results are stored."""

    type: Literal[EventType.COMPLETED] = EventType.COMPLETED
    data: CompletedData


class FileFailed(Event):
    """The work was given up."""

    type: Literal[EventType.FAILED] = EventType.FAILED
    data: FailedData


class FileCancelled(Event):
    """The work was stopped on request."""

    type: Literal[EventType.CANCELLED] = EventType.CANCELLED
    data: CancelledData


class FileDeleted(Event):
    """The file, its results and its personal data are gone."""

    type: Literal[EventType.DELETED] = EventType.DELETED
    data: DeletedData


class FileCancelRequested(Event):
    """Somebody wants the work on a file to stop."""

    type: Literal[EventType.CANCEL_REQUESTED] = EventType.CANCEL_REQUESTED
    data: CancelRequestedData


class FileShared(Event):
    """Somebody else of the tenant may read the file."""

    type: Literal[EventType.SHARED] = EventType.SHARED
    data: Reader


class FileUnshared(Event):
    """Somebody may read the file no longer."""

    type: Literal[EventType.UNSHARED] = EventType.UNSHARED
    data: Reader


class FileCommanded(Event):
    """Somebody asked for something to be done with a file; what came of it, other events tell."""

    type: Literal[EventType.COMMANDED] = EventType.COMMANDED
    data: CommandedData


class FileRetryScheduled(Event):
    """An attempt waits in a delay tier until it is due."""

    type: Literal[EventType.RETRY_SCHEDULED] = EventType.RETRY_SCHEDULED
    data: RetryScheduledData


class FileWebhookScheduled(Event):
    """A message to a server waits in a delay tier until it is due."""

    type: Literal[EventType.WEBHOOK_SCHEDULED] = EventType.WEBHOOK_SCHEDULED
    data: WebhookScheduledData


class FileDead(Event):
    """A record could not be read, or was given up; it is kept here with the reason."""

    type: Literal[EventType.DEAD] = EventType.DEAD
    subject: str = Field(description="the file_id, or the record's key if that is none")
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
"""The events that tell of the work on a file."""

AccessEvent = FileShared | FileUnshared
"""The events that tell who may read a file, beside its owner."""

StatusEvent = LifecycleEvent | AccessEvent
"""The events that the projection folds into a file's status."""

AnyEvent = StatusEvent | FileCommanded | FileRetryScheduled | FileWebhookScheduled | FileDead

_OF_STATUS = frozenset(StatusEvent.__args__)


def tells_of_status(event: AnyEvent) -> TypeGuard[StatusEvent]:
    """Whether an event is a `StatusEvent`; `isinstance` would try class by class."""
    return type(event) in _OF_STATUS


EVENT_CLASSES: dict[EventType, type[Event]] = {
    cls.model_fields["type"].default: cls for cls in AnyEvent.__args__
}

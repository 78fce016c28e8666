"""The projection: the status of a file as a pure fold of its events.

Two topics have no common order and delivery is at least once, so the fold does not depend on order.
Every event has a position. The event with the greatest position, the *leading* event, decides the
status. Every event also adds its facts and its line in the history. Any permutation, duplication
and batching of a file's events leads to the same `Status`.

A request to cancel says nothing about the processing, so it never leads and leaves no line. It
shows as a phase until its run has ended. Then nothing of it remains, because its topic discards it
as well.

Within a run, the first outcome in the log counts. A later one, from a pod that was considered dead,
changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, assert_never

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field

from services.status.projection.history import HistoryEntry, is_end, with_events
from services.status.projection.position import NOWHERE, Position, position_of, without_offset
from services.status.projection.shares import SHARING, Shares, with_event, without_names
from shared.blobs.places import source_key
from shared.events.events import (
    AccessEvent,
    EventType,
    FileCancelled,
    FileCancelRequested,
    FileCompleted,
    FileDeleted,
    FileFailed,
    FileProcessing,
    FileProgressed,
    FileRequeued,
    FileRetrying,
    FileUploaded,
    LifecycleEvent,
    RequeuedData,
    StatusEvent,
    Timestamp,
)
from shared.events.facts import Failure, Progress, Result, assembled, furthest

CANCELLING = "cancelling"
"""The phase of a file whose present run is to be cancelled."""

FIRST_RUN = 1


class FileState(StrEnum):
    """The possible states of a file."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (FileState.COMPLETED, FileState.FAILED, FileState.CANCELLED)


class ProgressView(BaseModel):
    """Progress of the present attempt."""

    model_config = ConfigDict(frozen=True)

    done: int
    total: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def percent(self) -> int:
        """0 to 100, rounded down; 0 if the total is unknown."""
        return min(100, self.done * 100 // self.total) if self.total else 0


_WHOLE = ProgressView(done=1, total=1)

# These are sets because a lookup is faster than matching classes, and happens for every event.
_CANCEL_REQUESTS = frozenset({EventType.CANCEL_REQUESTED})
_FACT_EVENTS = frozenset(
    {EventType.UPLOADED, EventType.REQUEUED, EventType.PROCESSING, EventType.DELETED}
)
"""Events whose facts are kept whether they lead or not."""


class Status(BaseModel):
    """The status of a file, as the API returns it."""

    model_config = ConfigDict(frozen=True)

    file_id: str
    status: FileState = FileState.PENDING
    phase: str = "queued"
    progress: ProgressView | None = None
    run: int = FIRST_RUN
    attempt: int = 0
    max_attempts: int | None = None
    error: Failure | None = None
    next_attempt_at: Timestamp | None = None
    result: Result | None = None
    created_at: Timestamp | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    updated_at: Timestamp | None = None
    deleted_at: Timestamp | None = None
    tenant: str | None = None
    owner: str | None = None
    name: str | None = None
    size: int | None = None
    content_type: str | None = None
    charset: str | None = Field(default=None, exclude=True)
    """Encoding of a text file, if known. It is part of the source's content type."""
    sha256: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    batch_id: str | None = None
    history: tuple[HistoryEntry, ...] = ()
    cancel_run: int | None = Field(default=None, exclude=True)
    """The last run that is to be cancelled, until it has ended."""
    cancel_reason: str | None = Field(default=None, exclude=True)
    """The user's reason. Of two requests for one run, the greater text is kept."""
    shares: Shares = Field(default=(), exclude=True)
    """The other readers of the file. Only its owner may see them, so the document omits them."""
    blob: str | None = Field(default=None, exclude=True)
    """Key of the stored file, if it differs from the one derived from the id. Internal."""
    position: Annotated[Position, PlainSerializer(without_offset, when_used="json")] = NOWHERE
    """Of two states of a file, the one with the greater position is the later one."""

    @property
    def source(self) -> str:
        """Key of the file as it was uploaded."""
        return self.blob or source_key(self.file_id)

    def has_label(self, label: str) -> bool:
        """Return True if the file has a label, given as `key:value`."""
        key, _, value = label.partition(":")
        return self.labels.get(key) == value


_UNKNOWN = Status(file_id="")
"""The status of a file before its first event."""

Draft = dict[str, Any]
"""The fields of a status under construction. Nothing else here is mutable."""


def fold(status: Status | None, events: Sequence[tuple[StatusEvent, int]]) -> Status | None:
    """Return the status after several events, each with its offset.

    Returns *the same object* if the events change nothing. Only one status is constructed,
    regardless of the number of events.
    """
    if not events:
        return status
    draft = {**vars(status or _UNKNOWN), "file_id": events[0][0].subject}
    for event, offset in events:
        if event.type in SHARING:
            _apply_share(draft, event, offset)  # type: ignore[arg-type]
        else:
            _add(draft, event, offset)  # type: ignore[arg-type]
    draft["history"] = with_events(draft["history"], events)
    _order_times(draft)
    return status if status and draft == vars(status) else assembled(Status, draft)


def _order_times(draft: Draft) -> None:
    """Keep the start no earlier than the creation, and the end no earlier than the start.

    The events may come from machines whose clocks disagree. The end time is that of its line in the
    history, so that the result does not depend on order.
    """
    created, started = draft["created_at"], draft["started_at"]
    if created is not None and started is not None:
        started = draft["started_at"] = max(created, started)
    if draft["finished_at"] is not None:
        ends = (line.time for line in draft["history"] if is_end(line, draft["run"]))
        finished = next(ends, draft["finished_at"])
        draft["finished_at"] = max(filter(None, (finished, started, created)))


def apply(status: Status | None, event: StatusEvent, offset: int) -> Status:
    """Return the status after `event`, which is at `offset` of its partition.

    Returns *the same object* if the event changes nothing.
    """
    after = fold(status, [(event, offset)])
    assert after is not None  # noqa: S101 - there is an event
    return after


def _apply_share(draft: Draft, event: AccessEvent, offset: int) -> None:
    draft["shares"] = with_event(
        draft["shares"], event, offset, is_deleted=bool(draft["deleted_at"])
    )


def _add(draft: Draft, event: LifecycleEvent, offset: int) -> None:
    position = position_of(event, offset)
    leads = position > draft["position"]
    if leads and event.data.run > draft["run"]:
        draft["started_at"] = None
    if event.type in _FACT_EVENTS:
        _apply_facts(draft, event, leads=leads)
    if leads:
        _lead(draft, event)
        draft["position"] = position
    elif isinstance(event, FileProgressed) and _is_of_present_attempt(draft, event):
        draft["progress"] = furthest(draft["progress"], _view(event.data.progress))
    if draft["cancel_run"] is not None or event.type in _CANCEL_REQUESTS:
        _apply_cancel_request(draft, event)


def _apply_cancel_request(draft: Draft, event: LifecycleEvent) -> None:
    """Keep the latest request to cancel while its run may still be cancelled.

    A request is void once its run has ended. Of two requests, the one for the later run counts.
    Neither rule depends on order.
    """
    run, reason = draft["cancel_run"] or 0, draft["cancel_reason"] or ""
    if isinstance(event, FileCancelRequested):
        run, reason = max((run, reason), (event.data.run, event.data.reason))
    is_over = draft["status"].is_terminal
    is_void = run < draft["run"] or (run == draft["run"] and is_over)
    if not is_void and not is_over:
        draft["phase"] = CANCELLING
    draft["cancel_run"] = None if is_void else run
    draft["cancel_reason"] = None if is_void else reason or None


_DEFAULTS: Draft = {
    "status": FileState.PENDING,
    "phase": "queued",
    "progress": None,
    "error": None,
    "next_attempt_at": None,
    "result": None,
    "finished_at": None,
}
"""Values of the fields that only the leading event decides."""


def _lead(draft: Draft, event: LifecycleEvent) -> None:
    """Set the fields that only the leading event decides."""
    reached: ProgressView | None = None
    if isinstance(event, FileProgressed) and _is_of_present_attempt(draft, event):
        reached = draft["progress"]
    draft |= _DEFAULTS
    fields = vars(event.data)  # pydantic's getattr raises for a missing field, which is slow.
    draft["run"] = fields["run"]
    draft["updated_at"] = event.time
    draft["attempt"] = fields.get("attempt", 0)
    draft["max_attempts"] = fields.get("max_attempts")
    match event:  # Frequent events come first, because each failed match costs time.
        case FileProcessing():
            draft["status"] = FileState.PROCESSING
            draft["phase"] = "starting"
        case FileCompleted(data=data):
            _end(draft, FileState.COMPLETED, event.time)
            draft["result"] = data.result
            draft["progress"] = _WHOLE
        case FileProgressed(data=data):
            draft["status"] = FileState.PROCESSING
            draft["phase"] = data.phase
            draft["progress"] = furthest(reached, _view(data.progress))
        case FileUploaded() | FileRequeued():
            pass
        case FileRetrying(data=data):
            draft["phase"] = "waiting to retry"
            draft["error"] = data.error
            draft["next_attempt_at"] = data.next_attempt_at
        case FileFailed(data=data):
            _end(draft, FileState.FAILED, event.time)
            draft["error"] = data.error
            draft["progress"] = _view(data.progress) if data.progress else None
        case FileCancelled():
            _end(draft, FileState.CANCELLED, event.time)
        case FileDeleted():
            draft["run"] = FIRST_RUN
        case FileCancelRequested():
            draft["run"] = FIRST_RUN
            draft["updated_at"] = None
        case _:
            assert_never(event)


def _end(draft: Draft, outcome: FileState, time: datetime) -> None:
    draft["status"] = outcome
    draft["phase"] = outcome.value
    draft["finished_at"] = time


def _is_of_present_attempt(draft: Draft, event: FileProgressed) -> bool:
    """Return True if the progress is that of the running attempt, which never decreases."""
    return (
        draft["status"] is FileState.PROCESSING
        and draft["attempt"] == event.data.attempt
        and draft["run"] == event.data.run
    )


def _view(progress: Progress) -> ProgressView:
    return ProgressView(done=progress.done, total=progress.total)


def _apply_facts(draft: Draft, event: LifecycleEvent, *, leads: bool) -> None:
    """Keep an event's facts, whether it leads or not."""
    match event:
        case FileProcessing(data=data) if leads or data.run == draft["run"]:
            known = draft["started_at"] if data.run == draft["run"] else None
            draft["started_at"] = min(known or event.time, event.time)
        case FileUploaded(data=data) | FileRequeued(data=data):
            draft["created_at"] = data.created_at if isinstance(data, RequeuedData) else event.time
            draft["size"] = data.size
            draft["content_type"] = data.content_type
            draft["charset"] = data.charset
            draft["sha256"] = data.sha256
            draft["batch_id"] = data.batch_id
            draft["blob"] = data.blob if data.blob != source_key(event.file_id) else None
            draft["tenant"] = data.tenant
            if draft["deleted_at"] is None:
                draft["owner"] = data.owner
                draft["name"] = data.name
                draft["labels"] = data.labels
        case FileDeleted():
            draft["deleted_at"] = min(draft["deleted_at"] or event.time, event.time)
            draft |= {"owner": None, "name": None, "labels": {}}
            draft["shares"] = without_names(draft["shares"])

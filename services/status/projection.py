"""The projection: the status of a file as a pure fold of its events.

Two topics have no common order and delivery is at least once, so the fold does not depend on
order. Every event has a position; the one with the greatest position, the *leading* event, says
what the status is, and every event leaves its facts and its line in the history. Any permutation,
duplication and batching of a file's events ends in the same `Status`.

A request to cancel says nothing of the work: it never leads and leaves no line. It shows as a phase
until its run has ended, and then nothing is left of it, since its topic forgets it as well.

Within a run the first outcome in the log is the outcome: a later one, from a pod that was thought
dead, changes nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, assert_never

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field

from shared.events import (
    AttemptData,
    EventType,
    Failure,
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
    Progress,
    Rank,
    RequeuedData,
    Result,
    StatusEvent,
    Timestamp,
)

CANCELLING = "cancelling"
"""The phase of a file whose present run somebody wants to stop."""

MAX_HISTORY = 100
"""Lines of history in one document; the latest stay. 100 lines are ~20 kB, far under MongoDB's
16 MB, and more than anybody reads of one file."""


FIRST_RUN = 1


class State(StrEnum):
    """What a file's status can be."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


class Position(NamedTuple):
    """Where an event stands among the events of its file; the greatest one leads."""

    run: int
    terminal: bool
    attempt: int
    rank: Rank
    seq: int
    before: int
    """The negated offset: of two events alike, the first in the log leads."""


NOWHERE = Position(0, False, 0, Rank.QUEUED, 0, 0)


def as_integers(position: Position) -> list[int]:
    """The position as MongoDB and JSON have it."""
    return [+part for part in position]  # A plain number of each, sooner than `int` does.


class ProgressView(BaseModel):
    """How far the work has come."""

    model_config = ConfigDict(frozen=True)

    done: int
    total: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def percent(self) -> int:
        return Progress(done=self.done, total=self.total).percent


_RANK = {
    EventType.UPLOADED: Rank.QUEUED,
    EventType.REQUEUED: Rank.QUEUED,
    EventType.PROCESSING: Rank.PROCESSING,
    EventType.PROGRESSED: Rank.PROGRESSED,
    EventType.RETRYING: Rank.RETRYING,
    EventType.COMPLETED: Rank.TERMINAL,
    EventType.FAILED: Rank.TERMINAL,
    EventType.CANCELLED: Rank.TERMINAL,
    EventType.DELETED: Rank.TERMINAL,
}


class HistoryEntry(BaseModel):
    """One line of a file's history; progress leaves none."""

    model_config = ConfigDict(frozen=True)

    id: str
    type: EventType
    time: Timestamp
    run: int
    attempt: int | None = None
    pod: str | None = None
    code: str | None = None
    message: str | None = None
    next_attempt_at: Timestamp | None = None
    offset: int | None = None
    """Where the event stands in its partition; None in documents of earlier versions."""

    @property
    def order(self) -> tuple[int, int, int, datetime, str]:
        """Lines are sorted by what happened, not by the clocks of the machines that told it."""
        return (self.run, self.attempt or 0, _RANK[self.type], self.time, self.pod or "")

    @property
    def position(self) -> Position:
        """The position of the event that the line tells of."""
        before = -(self.offset or 0)
        if self.type is EventType.DELETED:
            return Position(0, False, 0, Rank.QUEUED, 0, before)
        rank = _RANK[self.type]
        if rank is Rank.TERMINAL:
            return Position(self.run, True, 0, rank, 0, before)
        return Position(self.run, False, self.attempt or 0, rank, 0, before)


class Status(BaseModel):
    """All that is known of a file, as the API gives it."""

    model_config = ConfigDict(frozen=True)

    file_id: str
    status: State = State.PENDING
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
    owner: str | None = None
    name: str | None = None
    size: int | None = None
    content_type: str | None = None
    sha256: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    batch_id: str | None = None
    history: tuple[HistoryEntry, ...] = ()
    cancel_run: int | None = Field(default=None, exclude=True)
    """The last run that is to be cancelled, for as long as that may still come true."""
    position: Annotated[Position, PlainSerializer(as_integers, when_used="json")] = NOWHERE
    """Of two states of a file the one with the greater position is the later one."""


def differing_fields(one: Status, other: Status) -> list[str]:
    """The names of the fields in which two statuses differ."""
    return sorted(
        name for name in Status.model_fields if getattr(one, name) != getattr(other, name)
    )


def fold(status: Status | None, events: Iterable[tuple[StatusEvent, int]]) -> Status | None:
    """Apply many events, each with its offset, one after another."""
    for event, offset in events:
        status = apply(status, event, offset)
    return status


def apply(status: Status | None, event: StatusEvent, offset: int) -> Status:
    """The status after `event`, which stands at `offset` of its partition.

    Returns *the same object* if the event changes nothing.
    """
    position = position_of(event, offset)
    if status is None:
        base = Status(file_id=event.file_id, position=position)
        first = base.model_copy(update=_led_by(event) | _facts(base, event, offset, leads=True))
        return _with_request(first, event)
    if position > status.position:
        changes = _facts(status, event, offset, leads=True) | _led_by(event)
        led = status.model_copy(update=changes | {"position": position})
        return _with_request(led, event)
    changes = _facts(status, event, offset, leads=False)
    changed = {name: value for name, value in changes.items() if getattr(status, name) != value}
    return _with_request(status.model_copy(update=changed) if changed else status, event)


def _with_request(status: Status, event: StatusEvent) -> Status:
    """The status with the last request to cancel, as far as it may still come true.

    A request is void when its run has ended, and of two the one for the later run counts; neither
    depends on what came first.
    """
    run = status.cancel_run
    if isinstance(event, FileCancelRequested):
        run = max(run or 0, event.data.run)
    if run is None:
        return status
    changes: dict[str, Any] = {"cancel_run": run}
    if run < status.run or (run == status.run and status.status.is_terminal):
        changes["cancel_run"] = None
    elif not status.status.is_terminal:
        changes["phase"] = CANCELLING
    if all(getattr(status, name) == value for name, value in changes.items()):
        return status
    return status.model_copy(update=changes)


def position_of(event: StatusEvent, offset: int) -> Position:
    """Where an event stands among the events of its file."""
    run = event.data.run
    match event:
        # These say nothing of the work, so they never lead; see `_facts` and `_with_request`.
        case FileDeleted():
            return Position(0, False, 0, Rank.QUEUED, 0, -offset)
        case FileCancelRequested():
            return Position(-1, False, 0, Rank.QUEUED, 0, 0)
        case FileCompleted() | FileFailed() | FileCancelled():
            return Position(run, True, 0, Rank.TERMINAL, 0, -offset)
        case FileProgressed(data=data):
            return Position(run, False, data.attempt, Rank.PROGRESSED, data.seq, -offset)
        case FileProcessing(data=data) | FileRetrying(data=data):
            return Position(run, False, data.attempt, _RANK[event.type], 0, -offset)
        case FileUploaded() | FileRequeued():
            return Position(run, False, 0, Rank.QUEUED, 0, -offset)
        case _:
            assert_never(event)


def _led_by(event: StatusEvent) -> dict[str, Any]:
    """What the leading event alone decides."""
    led: dict[str, Any] = {
        "status": State.PENDING,
        "phase": "queued",
        "progress": None,
        "run": event.data.run,
        "attempt": 0,
        "max_attempts": None,
        "error": None,
        "next_attempt_at": None,
        "result": None,
        "finished_at": None,
        "updated_at": event.time,
    }
    if isinstance(event.data, AttemptData):
        led |= {"attempt": event.data.attempt, "max_attempts": event.data.max_attempts}
    match event:
        case FileUploaded() | FileRequeued():
            return led
        case FileDeleted():
            return led | {"run": FIRST_RUN}
        case FileCancelRequested():
            return led | {"run": FIRST_RUN, "updated_at": None}
        case FileProcessing():
            return led | {"status": State.PROCESSING, "phase": "starting"}
        case FileProgressed():
            return led | {
                "status": State.PROCESSING,
                "phase": event.data.phase,
                "progress": _view(event.data.progress),
            }
        case FileRetrying():
            return led | {
                "phase": "waiting to retry",
                "error": event.data.error,
                "next_attempt_at": event.data.next_attempt_at,
            }
        case FileCompleted():
            outcome = State.COMPLETED
            led |= {"result": event.data.result, "progress": ProgressView(done=1, total=1)}
        case FileFailed():
            outcome = State.FAILED
            led |= {"error": event.data.error, "progress": _view(event.data.progress)}
        case FileCancelled():
            outcome = State.CANCELLED
        case _:
            assert_never(event)
    return led | {"status": outcome, "phase": outcome.value, "finished_at": event.time}


def _view(progress: Progress | None) -> ProgressView | None:
    return ProgressView(done=progress.done, total=progress.total) if progress else None


def _facts(status: Status, event: StatusEvent, offset: int, *, leads: bool) -> dict[str, Any]:
    """What an event leaves behind whether it leads or not."""
    facts: dict[str, Any] = {}
    if leads and event.data.run > status.run:
        facts["started_at"] = None
    match event:
        case FileUploaded(data=data) | FileRequeued(data=data):
            facts |= {
                "created_at": data.created_at if isinstance(data, RequeuedData) else event.time,
                "size": data.size,
                "content_type": data.content_type,
                "sha256": data.sha256,
                "batch_id": data.batch_id,
            }
            if status.deleted_at is None:
                facts |= {"owner": data.owner, "name": data.name, "labels": data.labels}
        case FileProcessing(data=data) if leads or data.run == status.run:
            known = status.started_at if data.run == status.run else None
            facts["started_at"] = min(known or event.time, event.time)
        case FileDeleted():
            facts |= {
                "deleted_at": min(status.deleted_at or event.time, event.time),
                "owner": None,
                "name": None,
                "labels": {},
            }
    if not isinstance(event, FileProgressed | FileCancelRequested):
        facts["history"] = _with_line(status.history, _line(event, offset))
    return facts


def _line(event: StatusEvent, offset: int) -> HistoryEntry:
    told = vars(event.data)  # A field that is not there costs pydantic's getattr an exception.
    error: Failure | None = told.get("error")
    return HistoryEntry(
        id=event.id,
        type=event.type,
        time=event.time,
        run=event.data.run,
        attempt=told.get("attempt"),
        pod=told.get("pod"),
        code=error.code if error else None,
        message=error.message if error else told.get("reason"),
        next_attempt_at=told.get("next_attempt_at"),
        offset=offset,
    )


def _with_line(history: tuple[HistoryEntry, ...], line: HistoryEntry) -> tuple[HistoryEntry, ...]:
    """The history with one more line; of two lines with one id the first in the log stays."""
    twin = next((entry for entry in history if entry.id == line.id), None)
    if twin is not None:
        if (twin.offset or 0) <= (line.offset or 0):
            return history
        history = tuple(entry for entry in history if entry is not twin)
    return tuple(sorted((*history, line), key=lambda entry: entry.order)[-MAX_HISTORY:])

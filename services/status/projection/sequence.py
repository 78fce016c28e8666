"""The one order in which every pod tells the states of a file.

A topic has an order, two topics together have none, and MongoDB's document may know more than this
pod's tail has read. Every pod tells the same states in the same order all the same: an event waits
for what caused it (`is_due`), and a document that is ahead of the tail is taken back to where the
tail stands (`rewind`).
"""

from collections.abc import Mapping

from services.status.projection import shares
from services.status.projection.projection import FileState, Status
from shared.events.events import (
    EventType,
    FileCancelRequested,
    FileDeleted,
    FileProgressed,
    FileRequeued,
    FileUploaded,
    StatusEvent,
)
from shared.events.topics import ACCESS, Topic, topic_of

_STATES = {
    EventType.UPLOADED: FileState.PENDING,
    EventType.REQUEUED: FileState.PENDING,
    EventType.PROCESSING: FileState.PROCESSING,
    EventType.RETRYING: FileState.PENDING,
    EventType.COMPLETED: FileState.COMPLETED,
    EventType.FAILED: FileState.FAILED,
    EventType.CANCELLED: FileState.CANCELLED,
    EventType.DELETED: FileState.PENDING,
}


def is_due(status: Status | None, event: StatusEvent) -> bool:
    """Whether what caused `event` is known: of two topics the later fact may be read first."""
    if isinstance(event, FileUploaded):
        return True
    if status is None:
        return False
    if event.type in shares.SHARING:
        return status.created_at is not None or status.deleted_at is not None
    run: int = vars(event.data)["run"]
    match event:
        case FileDeleted() | FileCancelRequested():
            return True
        case FileRequeued():
            return status.run >= run or (status.run == run - 1 and status.status.is_terminal)
        case FileProgressed(data=data) if status.run == run:
            return status.status.is_terminal or status.attempt >= data.attempt
        case _:
            return status.run >= run


def rewind(document: Status, read: Mapping[Topic, int]) -> Status | None:
    """The state that MongoDB's document had where the tail stands.

    Args:
        read: of each topic, the offset of the next event that the tail brings, in the file's
            partition.

    Returns:
        *The same object* if it contains nothing that is still to come. None if all of the file is
        still to come.
    """
    if not document.history and not document.shares:
        return None  # Progress, or a request to cancel, that was stored before its upload.
    past = tuple(
        line
        for line in document.history
        if line.offset is None or line.offset < read.get(topic_of(line.type), 0)
    )
    known = shares.before(document.shares, read.get(ACCESS, 0))
    if len(past) == len(document.history):
        if known is document.shares:
            return document
        return document.model_copy(update={"shares": known})
    if not past:
        return None
    deleted = any(line.type is EventType.DELETED for line in past)
    back = document.model_copy(
        update={
            "history": past,
            "deleted_at": document.deleted_at if deleted else None,
            "shares": known,
        }
    )
    last = max(past, key=lambda line: line.position)
    if last.position == document.position:
        return back
    # Enough to fold on: the rest of the state is decided by the next event that leads.
    return back.model_copy(
        update={
            "position": last.position,
            "status": _STATES[last.type],
            "run": last.run,
            "attempt": last.attempt or 0,
            # It may be what was reached later, and progress does not fall within an attempt.
            "progress": None,
        }
    )

"""The order in which every pod publishes the states of a file.

One topic is ordered, two topics together are not, and MongoDB's document may be ahead of this pod's
tail. Every pod publishes the same states in the same order nevertheless. An event waits for its
cause (`is_due`), and a document that is ahead of the tail is rewound to the tail's position
(`rewind`).
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
    """Return True if the cause of an event is known.

    Across topics, an effect may be read before its cause.
    """
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
    """Return the state of MongoDB's document at the position of the tail.

    Args:
        document: the stored status.
        read: offset of the next event of each topic, in the file's partition.

    Returns:
        *The same object* if the tail has passed all of the document's events. None if all events of
            the file are still to come.
    """
    if not document.history and not document.shares:
        return None  # Progress or a request to cancel was stored before the upload.
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
    # This is enough to fold further events: the next leading event decides the other fields.
    return back.model_copy(
        update={
            "position": last.position,
            "status": _STATES[last.type],
            "run": last.run,
            "attempt": last.attempt or 0,
            # The value may be from later, and progress must not decrease within an attempt.
            "progress": None,
        }
    )

"""One-line builders of events, so that a test contains only the values that matter to it."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared.blobs.places import source_key
from shared.events.events import (
    CancelledData,
    CancelRequestedData,
    CompletedData,
    DeletedData,
    Event,
    FailedData,
    FileCancelled,
    FileCancelRequested,
    FileCompleted,
    FileDeleted,
    FileFailed,
    FileProcessing,
    FileProgressed,
    FileRequeued,
    FileRetrying,
    FileShared,
    FileUnshared,
    FileUploaded,
    ProcessingData,
    ProgressedData,
    RequeuedData,
    RetryingData,
    UploadedData,
)
from shared.events.facts import Artifact, Failure, Progress, Reader, Result

FILE = "01930000-0000-7000-8000-000000000001"
BLOB = f"files/{FILE}/source"
START = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = Failure(code="demo_retry", message="not this time", retryable=True)


def at(seconds: float) -> datetime:
    """Return the time `seconds` after the upload."""
    return START + timedelta(seconds=seconds)


def upload_data(**changes: Any) -> dict[str, Any]:
    return {
        "blob": BLOB,
        "content_type": "application/pdf",
        "size": 1234,
        "sha256": "0" * 64,
        "name": "report.pdf",
        "owner": "ada",
        "labels": {"project": "x"},
        "batch_id": "b1",
    } | changes


def uploaded(file_id: str = FILE, *, time: float = 0, **changes: Any) -> FileUploaded:
    data = UploadedData(**upload_data(**changes))
    return FileUploaded.of(file_id, data, source="/upload", time=at(time))


def requeued(run: int = 2, *, time: float = 50, **changes: Any) -> FileRequeued:
    data = RequeuedData(**upload_data(run=run, created_at=START, reason="asked for", **changes))
    return FileRequeued.of(FILE, data, source="/status", time=at(time))


def processing(
    attempt: int = 1,
    *,
    run: int = 1,
    pod: str = "pod-a",
    time: float = 1,
    time_limit: float | None = None,
) -> FileProcessing:
    data = ProcessingData(run=run, attempt=attempt, max_attempts=3, pod=pod, time_limit=time_limit)
    return FileProcessing.of(FILE, data, source="/processor", time=at(time))


def progressed(
    seq: int = 1, *, attempt: int = 1, run: int = 1, done: int = 1, total: int = 4, time: float = 2
) -> FileProgressed:
    data = ProgressedData(
        run=run,
        attempt=attempt,
        max_attempts=3,
        seq=seq,
        phase="extracting",
        progress=Progress(done=done, total=total),
    )
    return FileProgressed.of(FILE, data, source="/processor", time=at(time))


def retrying(attempt: int = 1, *, run: int = 1, time: float = 3) -> FileRetrying:
    data = RetryingData(
        run=run, attempt=attempt, max_attempts=3, error=ERROR, next_attempt_at=at(time + 5)
    )
    return FileRetrying.of(FILE, data, source="/processor", time=at(time))


def completed(attempt: int = 1, *, run: int = 1, time: float = 9) -> FileCompleted:
    result = Result(
        prefix=f"files/{FILE}/{run}.{attempt}",
        artifacts=(Artifact(name="text.txt", content_type="text/plain", size=7),),
        statistics={"pages": 2},
    )
    data = CompletedData(run=run, attempt=attempt, max_attempts=3, result=result)
    return FileCompleted.of(FILE, data, source="/processor", time=at(time))


def failed(attempt: int = 1, *, run: int = 1, time: float = 9) -> FileFailed:
    data = FailedData(
        run=run,
        attempt=attempt,
        max_attempts=3,
        error=Failure(code="corrupt_document", message="no PDF", retryable=False),
        progress=Progress(done=1, total=4),
    )
    return FileFailed.of(FILE, data, source="/processor", time=at(time))


def cancelled(attempt: int = 1, *, run: int = 1, time: float = 9) -> FileCancelled:
    data = CancelledData(run=run, attempt=attempt, max_attempts=3, reason="asked for")
    return FileCancelled.of(FILE, data, source="/processor", time=at(time))


def deleted(*, time: float = 99) -> FileDeleted:
    data = DeletedData(run=1, reason="asked for")
    return FileDeleted.of(FILE, data, source="/status", time=at(time))


def cancel_requested(
    run: int = 1, *, time: float = 5, reason: str = "asked for"
) -> FileCancelRequested:
    data = CancelRequestedData(run=run, reason=reason)
    return FileCancelRequested.of(FILE, data, source="/status", time=at(time))


def shared(reader: str = "bob", *, time: float = 20, command: str = "c1") -> FileShared:
    data = Reader(command_id=command, reader=reader)
    return FileShared.of(FILE, data, source="/status", time=at(time))


def unshared(reader: str = "bob", *, time: float = 30, command: str = "c2") -> FileUnshared:
    data = Reader(command_id=command, reader=reader)
    return FileUnshared.of(FILE, data, source="/status", time=at(time))


E = TypeVar("E", bound=Event)


def about(file_id: str, event: E) -> E:
    """Return the same event about another file, with the blob key of that file."""
    changes: dict[str, Any] = {
        "subject": file_id,
        "id": event.id.replace(event.subject, file_id),
    }
    if isinstance(event, FileUploaded | FileRequeued) and event.data.blob == BLOB:
        changes["data"] = event.data.model_copy(update={"blob": source_key(file_id)})
    return event.model_copy(update=changes)

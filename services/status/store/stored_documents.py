"""Converts statuses to MongoDB documents and back: plain mappings, without the driver."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from services.status.projection.position import as_integers
from services.status.projection.projection import Status
from services.status.store.name_keys import KEPT, KEYS, name_fields
from shared.telemetry import UNREADABLE_DOCUMENTS

log = logging.getLogger(__name__)


class UnstorableError(Exception):
    """MongoDB rejects some documents because of their content; all others are written."""

    def __init__(self, refused: Mapping[str, str], conflicts: Collection[str] = ()) -> None:
        """Report the rejected documents.

        Args:
            refused: the reason for each rejected document, by file id.
            conflicts: other files that another writer changed.
        """
        super().__init__("; ".join(f"{file}: {why}" for file, why in refused.items()))
        self.refused = dict(refused)
        self.conflicts = set(conflicts)


class UnreadableDocumentError(Exception):
    """A document does not match this version's model. A refold of the log replaces it."""


def _shares(status: Status) -> list[dict[str, Any]] | None:
    """Return the readers of a file, or None if it was never shared."""
    return [vars(share) for share in status.shares] or None


def compared(read: Status) -> dict[str, Any]:
    """Return the fields that a compare-and-set compares.

    Every event changes at least one of them. None depends on how events were batched, so a replay
    produces identical documents.
    """
    return {
        "position": as_integers(read.position),
        "history": len(read.history),
        "created_at": read.created_at,
        "started_at": read.started_at,
        "deleted_at": read.deleted_at,
        "cancel_run": read.cancel_run,
        "cancel_reason": read.cancel_reason,
        "shares": _shares(read),
    }


PRESENT = [
    {"$size": "$history"} if field == "history" else f"${field}"
    for field in compared(Status(file_id=""))
]
"""The same fields of a stored document; a missing field is null."""


def compare_and_set(read: Status, new: Status) -> list[dict[str, Any]]:
    """Return the update that writes `new` only if the document is unchanged since it was read.

    MongoDB finds a document by its id alone without a query plan. With the condition in the filter
    it would plan each write, which took half of the time.
    """
    is_as_read = {"$eq": [PRESENT, {"$literal": list(compared(read).values())}]}
    document: dict[str, Any] = {"$literal": to_document(new)}
    if KEYS not in document["$literal"] and read.name == new.name:
        document = {"$mergeObjects": [document, KEPT]}
    return replace_if(is_as_read, document)


def replace_if(condition: Mapping[str, Any], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the update that replaces a document if the condition holds, and else keeps it."""
    return [{"$replaceWith": {"$cond": [condition, document, "$$ROOT"]}}]


def as_read(read: Status) -> dict[str, Any]:
    """Return the filter that matches a document only if it is unchanged."""
    return {"_id": read.file_id, **compared(read), "history": {"$size": len(read.history)}}


def to_document(status: Status) -> dict[str, Any]:
    """Return a status as plain fields: the driver does not know the models."""
    result = status.result
    document = {
        **vars(status),
        "_id": status.file_id,
        "progress": status.progress and vars(status.progress),
        "error": status.error and vars(status.error),
        "result": result
        and {**vars(result), "artifacts": [vars(artifact) for artifact in result.artifacts]},
        "history": [vars(line) for line in status.history],
        "position": as_integers(status.position),
        "label_index": [f"{key}:{value}" for key, value in status.labels.items()],
    }
    del document["file_id"]
    del document["shares"]
    if status.blob is None:  # Large files, and all files in an object store.
        del document["blob"]
    if status.charset is None:  # Files that are not text.
        del document["charset"]
    if status.cancel_reason is None:  # Files without a cancel request.
        del document["cancel_reason"]
    if status.shares:
        document["shares"] = _shares(status)
    if status.deleted_at is not None:
        document["to_erase"] = True
    if status.status.is_terminal:
        document |= name_fields(status.name)
    return document


def to_status(document: Mapping[str, Any]) -> Status:
    try:
        return Status.model_validate({**document, "file_id": document["_id"]})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        where = ", ".join(".".join(map(str, fault["loc"])) for fault in faults[:5])
        raise UnreadableDocumentError(
            f"the document of {document['_id']!r:.200} cannot be read: {where}"
        ) from error


def readable(documents: Iterable[Mapping[str, Any]]) -> Iterator[Status]:
    """Yield the statuses of the readable documents. An unreadable one is logged and skipped."""
    for document in documents:
        try:
            yield to_status(document)
        except UnreadableDocumentError as error:
            UNREADABLE_DOCUMENTS.inc()
            log.error("%s; run `waybill replay` to repair it", error)

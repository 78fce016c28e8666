"""Statuses as documents of MongoDB, and back: plain mappings that no driver is needed for."""

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
    """MongoDB does not take some documents, for what they are; all others are written."""

    def __init__(self, refused: Mapping[str, str], conflicts: Collection[str] = ()) -> None:
        """Args:
        refused: by file, why MongoDB does not take its document.
        conflicts: files that somebody else changed, among the others.
        """
        super().__init__("; ".join(f"{file}: {why}" for file, why in refused.items()))
        self.refused = dict(refused)
        self.conflicts = set(conflicts)


class UnreadableDocumentError(Exception):
    """A document in MongoDB is not one of this version; a refold of the log replaces it."""


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
"""The same of a document, where a field that is not there is null."""


def compare_and_set(read: Status, new: Status) -> list[dict[str, Any]]:
    """Return the update that writes `new` if the document is as it was read, and else leaves it.

    MongoDB finds a document by its id alone without a plan, which it would make for each one if the
    condition stood in the filter: that took half the time of a write.
    """
    is_as_read = {"$eq": [PRESENT, {"$literal": list(compared(read).values())}]}
    document: dict[str, Any] = {"$literal": to_document(new)}
    if KEYS not in document["$literal"] and read.name == new.name:
        document = {"$mergeObjects": [document, KEPT]}
    return [{"$replaceWith": {"$cond": [is_as_read, document, "$$ROOT"]}}]


def as_read(read: Status) -> dict[str, Any]:
    """Return the filter that matches a document only if it is unchanged."""
    return {"_id": read.file_id, **compared(read), "history": {"$size": len(read.history)}}


def to_document(status: Status) -> dict[str, Any]:
    """The fields of a status as the driver takes them: it knows no models."""
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
    if status.blob is None:  # So it is of a large file, and of each in an object store.
        del document["blob"]
    if status.charset is None:  # So it is of all that is no text.
        del document["charset"]
    if status.cancel_reason is None:  # So it is of all that nobody cancels.
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
    """The statuses in those documents that can be read: one that cannot hides no other."""
    for document in documents:
        try:
            yield to_status(document)
        except UnreadableDocumentError as error:
            UNREADABLE_DOCUMENTS.inc()
            log.error("%s; `waybill replay` folds it anew", error)

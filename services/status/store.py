"""The files in MongoDB: the queryable truth. The only module that knows the driver."""

import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING, IndexModel, InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from services.status.projection import State, Status
from shared.errors import MongoUnavailableError
from shared.settings import Settings

FILES = "files"
"""Name of the collection."""

SERVER_SELECTION_TIMEOUT_MS = 3_000
"""How long one operation looks for a MongoDB that answers before the caller is told."""

INDEXES = [
    [(field, ASCENDING), ("_id", DESCENDING)]
    for field in ("status", "owner", "batch_id", "label_index")
]
"""Each ends with what the lists are sorted by, so that MongoDB neither sorts nor reads a collection
from end to end. Of these only the status changes while a file is worked on: for an index of what
changes the projector pays at each change. With the status in all four it wrote a third less."""

DUPLICATE_KEY = 11000
NAMESPACE_NOT_FOUND = 26

P = ParamSpec("P")
R = TypeVar("R")


def _translated(
    method: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Turn the driver's errors into ours."""

    @wraps(method)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(*args, **kwargs)
        except PyMongoError as error:
            raise MongoUnavailableError(f"MongoDB does not answer: {error}") from error

    return translated


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which files a list is to hold; None leaves a field open."""

    status: State | None = None
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = None
    """`key:value`."""
    name: str | None = None
    """A part of the name, in any case of letters."""


@dataclass(frozen=True)
class Page:
    """One page of a list, newest first."""

    items: list[Status]
    next_cursor: str | None


class FileStore:
    """The projected statuses, one document a file, `_id` = file_id.

    Every method raises `MongoUnavailableError` when MongoDB does not answer.
    """

    def __init__(self, settings: Settings, *, collection: str = FILES) -> None:
        self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            settings.mongodb,
            tz_aware=True,
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
        )
        self._settings = settings
        self._files: AsyncIOMotorCollection[dict[str, Any]] = self._client[settings.database][
            collection
        ]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def sibling(self, collection: str) -> "FileStore":
        """A store over another collection of the same database."""
        return FileStore(self._settings, collection=collection)

    @_translated
    async def prepare(self) -> None:
        """Create the indexes; every list that the API offers walks one of them in order."""
        await self._files.create_indexes([IndexModel(keys) for keys in INDEXES])

    @_translated
    async def get(self, file_id: str) -> Status | None:
        """One file, or None if it is not known."""
        document = await self._files.find_one({"_id": file_id})
        return None if document is None else _to_status(document)

    @_translated
    async def get_many(self, file_ids: Collection[str]) -> dict[str, Status]:
        """Those of the files that are known."""
        cursor = self._files.find({"_id": {"$in": list(file_ids)}})
        return {document["_id"]: _to_status(document) async for document in cursor}

    @_translated
    async def save(self, changes: Sequence[tuple[Status | None, Status]]) -> set[str]:
        """Write changed statuses in one go, each only if nobody else changed it meanwhile.

        Args:
            changes: what was read (None if it was not there) and the status as it shall be.

        Returns:
            The ids of files that somebody else changed: read them and fold again.
        """
        if not changes:
            return set()
        conflicts: set[str] = set()
        replaced = {new.file_id for read, new in changes if read is not None}
        operations = [_compare_and_set(read, new) for read, new in changes]
        try:
            result = await self._files.bulk_write(operations, ordered=False)
            matched = result.matched_count
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if any(fault["code"] != DUPLICATE_KEY for fault in faults):
                raise
            conflicts = {changes[fault["index"]][1].file_id for fault in faults}
            matched = error.details["nMatched"]
        if matched < len(replaced):
            # The driver tells how many were not matched, not which: ask again for all of them.
            conflicts |= replaced
        return conflicts

    @_translated
    async def find(self, query: Query, *, limit: int, cursor: str | None) -> Page:
        """A page of files, newest first.

        The order is that of the ids, which are sorted by time, so a page stays where it is while
        files come and go.

        Args:
            cursor: `next_cursor` of the page before.
        """
        conditions = _conditions(query)
        if cursor is not None:
            conditions["_id"] = {"$lt": cursor}
        found = self._files.find(conditions, {"history": 0}).sort("_id", DESCENDING)
        documents = await found.limit(limit + 1).to_list(None)
        items = [_to_status(document) for document in documents[:limit]]
        return Page(items, items[-1].file_id if len(documents) > limit else None)

    @_translated
    async def ping(self) -> None:
        """Return if MongoDB answers."""
        await self._client.admin.command("ping")

    async def scan(self) -> AsyncIterator[Status]:
        """Every file, in the order of the ids."""
        try:
            async for document in self._files.find().sort("_id", ASCENDING):
                yield _to_status(document)
        except PyMongoError as error:
            raise MongoUnavailableError(f"MongoDB does not answer: {error}") from error

    @_translated
    async def drop(self) -> None:
        """Remove the collection."""
        await self._files.drop()

    @_translated
    async def take_the_place_of(self, other: "FileStore") -> None:
        """Rename this collection to the other's name, in one step that no reader sees half done."""
        name = other._files.name  # noqa: SLF001 - of the same class
        try:
            await self._files.rename(name, dropTarget=True)
        except OperationFailure as error:
            if error.code != NAMESPACE_NOT_FOUND:
                raise
            await other.drop()  # There is nothing to rename: the log holds no file at all.


def _conditions(query: Query) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "status": query.status and query.status.value,
        "owner": query.owner,
        "batch_id": query.batch_id,
        "label_index": query.label,
        "name": query.name and {"$regex": re.escape(query.name), "$options": "i"},
    }
    conditions = {field: value for field, value in wanted.items() if value is not None}
    return conditions | {"deleted_at": None}


def _compare_and_set(
    read: Status | None, new: Status
) -> InsertOne[dict[str, Any]] | ReplaceOne[dict[str, Any]]:
    """Write `new` if the document is as it was read.

    What is compared are the fields that any event must change one of, and nothing that depends on
    how the events came in batches: a replay gives the very same documents.
    """
    if read is None:
        return InsertOne(_to_document(new))
    seen = {
        "_id": read.file_id,
        "position": _position(read),
        "history": {"$size": len(read.history)},
        "created_at": read.created_at,
        "started_at": read.started_at,
        "deleted_at": read.deleted_at,
        "cancel_run": read.cancel_run,
    }
    return ReplaceOne(seen, _to_document(new))


def _to_document(status: Status) -> dict[str, Any]:
    document = status.model_dump()
    document["_id"] = document.pop("file_id")
    document["position"] = _position(status)
    document["cancel_run"] = status.cancel_run
    document["label_index"] = [f"{key}:{value}" for key, value in status.labels.items()]
    return document


def _position(status: Status) -> list[int]:
    return [int(part) for part in status.position]


def _to_status(document: Mapping[str, Any]) -> Status:
    return Status.model_validate({**document, "file_id": document["_id"]})

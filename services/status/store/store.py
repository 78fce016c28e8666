"""The files in MongoDB: the queryable truth. The only module that knows the driver."""

import logging
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING, InsertOne, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
)

from services.status.projection.projection import FileState, Status
from services.status.store.access import EVERYTHING, Visibility
from services.status.store.conditions import conditions
from services.status.store.indexes import AT_ANY_TIME, BY_CHANGE, INDEXES, OF_ALL
from services.status.store.name_search import NameSearch
from services.status.store.query import ListCursor, Page, Query, Sort
from services.status.store.stored_documents import (
    UnreadableDocumentError,
    UnstorableError,
    as_read,
    compare_and_set,
    readable,
    to_document,
    to_status,
)
from services.status.store.whole_count import WholeCount
from shared.errors import MongoUnavailableError, TooWideSearchError
from shared.settings import Settings

log = logging.getLogger(__name__)

FILES = "files"
"""Name of the collection."""

SERVER_SELECTION_TIMEOUT_MS = 3_000
"""How long one operation looks for a MongoDB that answers before the caller is told."""

CONNECT_TIMEOUT_MS = 3_000
"""How long a connection may take. So long the driver's own look at a server may be silent, too: a
mongod that is frozen is noticed by that."""

SOCKET_TIMEOUT_MS = 15_000
"""How long MongoDB may take to answer a request, and how long one may wait for a connection.

A mongod that is frozen keeps its connections open; the largest batch takes about a second."""

FIND_WITHIN_MS = 3_000
"""How long MongoDB looks for the files of one page: a filter that matches few of millions may have
no index of its own, and nobody waits longer for a list."""

DUPLICATE_KEY = 11000

UNENCODABLE = (BSONError, DocumentTooLarge, OverflowError, RecursionError, TypeError, ValueError)
"""What the driver raises of a document that is none: it names neither the document nor, always,
itself. No other part of a write raises one of these."""

REFUSED = frozenset({2, 9, 14, 15, 22, 52, 53, 55, 56, 57, 121, 171, 10334, 17280, 17419, 17420})
"""Codes by which MongoDB refuses a document for what it is: a bad value, key or type, too large or
deep, invalid by the collection's rules. All others tell of MongoDB's own state, and may pass."""

P = ParamSpec("P")
R = TypeVar("R")


def translated(
    method: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Turn the driver's errors into ours, and note whether MongoDB answers."""

    @wraps(method)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = await method(*args, **kwargs)
        except PyMongoError as error:
            _note(args, is_away=isinstance(error, ConnectionFailure))
            raise MongoUnavailableError(f"MongoDB does not answer: {error}") from error
        _note(args, is_away=False)
        return result

    return translated


def _note(args: tuple[object, ...], *, is_away: bool) -> None:
    if args and isinstance(args[0], FileStore):
        args[0].is_away = is_away


class FileStore:
    """The projected statuses, one document a file, `_id` = file_id.

    Every method raises `MongoUnavailableError` when MongoDB does not answer.
    """

    def __init__(self, settings: Settings, *, collection: str = FILES) -> None:
        self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            settings.mongodb,
            tz_aware=True,
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            connectTimeoutMS=CONNECT_TIMEOUT_MS,
            socketTimeoutMS=SOCKET_TIMEOUT_MS,
            waitQueueTimeoutMS=SOCKET_TIMEOUT_MS,
            # The offsets of a batch are committed when it is stored: a mongod that is killed would
            # otherwise forget what it acknowledged within a tenth of a second.
            journal=True,
        )
        self._settings = settings
        self.is_away = False
        """Whether MongoDB did not answer when it was asked last."""
        self._files: AsyncIOMotorCollection[dict[str, Any]] = self._client[settings.database][
            collection
        ]

        self._whole = WholeCount(self._files)
        self._names = NameSearch(self._files, UpdateOne, within_ms=lambda: FIND_WITHIN_MS)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def name(self) -> str:
        """That of the collection."""
        return self._files.name

    def sibling(self, collection: str) -> "FileStore":
        """A store over another collection of the same database."""
        return FileStore(self._settings, collection=collection)

    def beside(self, name: str) -> AsyncIOMotorCollection[dict[str, Any]]:
        """A collection of this one's own, for what is noted about it."""
        return self._files.database[f"{self._files.name}_{name}"]

    @translated
    async def prepare(self) -> None:
        """Create the indexes; every list that the API offers walks one of them in order.

        Those of earlier versions go, which every change would pay for.
        """
        await self._files.create_indexes(INDEXES)
        for former in set(OF_ALL.values()) & set(await self._files.index_information()):
            await self._files.drop_index(former)

    @translated
    async def get(self, file_id: str, visible_to: Visibility = EVERYTHING) -> Status | None:
        """One file, or None if it is not known.

        Raises:
            UnreadableDocumentError: its document is none of this version.
        """
        document = await self._files.find_one({"_id": file_id, **visible_to.conditions()})
        return None if document is None else to_status(document)

    @translated
    async def get_many(
        self, file_ids: Collection[str], visible_to: Visibility = EVERYTHING
    ) -> dict[str, Status]:
        """Those of the files that are known, and whose documents can be read."""
        cursor = self._files.find({"_id": {"$in": list(file_ids)}, **visible_to.conditions()})
        return {status.file_id: status for status in readable([each async for each in cursor])}

    @translated
    async def save(self, changes: Sequence[tuple[Status | None, Status]]) -> set[str]:
        """Write changed statuses in one go, each only if nobody else changed it meanwhile.

        Args:
            changes: what was read (None if it was not there) and the status as it shall be.

        Returns:
            The ids of files that somebody else changed: read them and fold again.

        Raises:
            UnstorableError: some of them cannot be stored for what they are; the rest is written.
        """
        if not changes:
            return set()
        conflicts: set[str] = set()
        refused: dict[str, str] = {}
        replaced = {new.file_id for read, new in changes if read is not None}
        try:
            operations = [_write(read, new) for read, new in changes]
            result = await self._files.bulk_write(operations, ordered=False)
            modified = result.modified_count
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if any(fault["code"] not in REFUSED | {DUPLICATE_KEY} for fault in faults):
                raise
            if error.details["writeConcernErrors"]:
                raise
            for fault in faults:
                file_id = changes[fault["index"]][1].file_id
                if fault["code"] == DUPLICATE_KEY:
                    conflicts.add(file_id)
                else:
                    refused[file_id] = f"MongoDB refused it: {fault['errmsg']}"
            modified = error.details["nModified"]
        except UNENCODABLE as error:
            return await self._save_without_guilty(changes, error)
        except OperationFailure as error:
            if error.code not in REFUSED:
                raise
            return await self._save_without_guilty(changes, error)
        if modified < len(replaced - refused.keys()):
            # The driver tells how many were not changed, not which: ask again for all of them.
            conflicts |= replaced - refused.keys()
        if refused:
            raise UnstorableError(refused, conflicts)
        return conflicts

    async def _save_without_guilty(
        self, changes: Sequence[tuple[Status | None, Status]], error: Exception
    ) -> set[str]:
        """Write changes of which some cannot be: halves of them, and halves of those that fail.

        Raises:
            UnstorableError: which could not be written; the rest is.
        """
        if len(changes) == 1:
            refused = {changes[0][1].file_id: f"{type(error).__name__}: {error}"}
            raise UnstorableError(refused) from error
        middle = len(changes) // 2
        conflicts: set[str] = set()
        guilty: dict[str, str] = {}
        for half in (changes[:middle], changes[middle:]):
            try:
                conflicts |= await self.save(half)
            except UnstorableError as unstorable:
                conflicts |= unstorable.conflicts
                guilty |= unstorable.refused
        if guilty:
            raise UnstorableError(guilty, conflicts)
        return conflicts

    @translated
    async def find(
        self, query: Query, *, sort: Sort = Sort.NEWEST_FIRST, limit: int, after: ListCursor | None
    ) -> Page:
        """A page of files, without their histories.

        Args:
            after: `next` of the page before.

        Raises:
            TooWideSearchError: it would take MongoDB longer than a reader shall wait.
        """
        wanted = conditions(query, sort, after)
        direction = DESCENDING if sort.descends else ASCENDING
        keys = ("updated_at", "_id") if sort.is_by_change else ("_id",)
        found = self._files.find({"$and": wanted}, {"history": 0})
        found = found.sort([(key, direction) for key in keys])
        found = found.limit(limit + 1).max_time_ms(FIND_WITHIN_MS)
        if sort.is_by_change:
            found = found.hint(BY_CHANGE)
        try:
            few = None
            if query.name is not None:
                few = await self._names.find(query.name, wanted, sort=sort, limit=limit)
            if few is not None:
                documents, last = few
            else:
                documents = await found.to_list(None)
                last = documents[limit - 1] if len(documents) > limit else None
        except ExecutionTimeout as error:
            raise TooWideSearchError from error
        # However few of the page can be read, the next one begins behind it.
        behind = None if last is None else ListCursor.behind(last, sort)
        return Page(list(readable(documents[:limit])), behind)

    @translated
    async def index_names(self, limit: int, *, older_than: float = 0.0) -> int:
        """Give search keys to documents that have none; returns to how many."""
        return await self._names.index_some(limit, older_than=older_than)

    @translated
    async def counts(self, visible_to: Visibility = EVERYTHING) -> dict[FileState, int]:
        """How many files have each status, without deleted ones.

        Most files are completed: these are what the others leave of all there are.
        """
        if not visible_to.everything:
            return await self.counts_of(Query(visible_to=visible_to))
        counts: dict[FileState, int] = {}
        for state in set(FileState) - {FileState.COMPLETED}:
            counts[state] = await self._count({"status": state.value})
        counts[FileState.COMPLETED] = await self._whole.read() - sum(counts.values())
        for state in FileState:
            deleted = await self._count({"status": state.value, "deleted_at": AT_ANY_TIME})
            counts[state] = max(0, counts[state] - deleted)
        return counts

    @translated
    async def counts_of(self, query: Query) -> dict[FileState, int]:
        """How many files of a list have each status."""
        wanted = conditions(query, Sort.NEWEST_FIRST, None)
        return {
            state: await self._count({"$and": [*wanted, {"status": state.value}]})
            for state in FileState
        }

    async def _count(self, condition: Mapping[str, Any]) -> int:
        # The command counts the keys of an index; the driver's own way would be an aggregation.
        counted = await self._files.database.command(
            "count", self._files.name, query=condition, maxTimeMS=FIND_WITHIN_MS
        )
        return int(counted["n"])

    @translated
    async def oldest(self, state: FileState, visible_to: Visibility = EVERYTHING) -> Status | None:
        """The file of a status that was uploaded before all others."""
        wanted = {"status": state.value, "deleted_at": None, **visible_to.conditions()}
        found = self._files.find(wanted, {"history": 0})
        documents = await found.sort("_id", ASCENDING).limit(1).to_list(None)
        return next(readable(documents), None)

    @translated
    async def to_erase(self, limit: int) -> list[Status]:
        """Files that were deleted, and that something may be stored of."""
        found = self._files.find({"to_erase": True}).limit(limit)
        return list(readable([document async for document in found]))

    @translated
    async def to_cancel(self, state: FileState, limit: int) -> list[Status]:
        """Files of a status whose present run somebody wants to stop."""
        wanted = {"cancel_run": {"$gt": 0}, "status": state.value, "deleted_at": None}
        found = self._files.find(wanted).limit(limit)
        return list(readable([document async for document in found]))

    @translated
    async def erased(self, read: Status) -> None:
        """Note that nothing is stored of a file, unless something has happened to it meanwhile."""
        await self._files.update_one(as_read(read), {"$unset": {"to_erase": ""}})

    async def scan(self) -> AsyncIterator[Status]:
        """Every file, in the order of the ids."""
        try:
            async for document in self._files.find().sort("_id", ASCENDING):
                for status in readable([document]):
                    yield status
        except PyMongoError as error:
            raise MongoUnavailableError(f"MongoDB does not answer: {error}") from error

    @translated
    async def remove(self, read: Collection[Status]) -> set[str]:
        """Delete documents, each only if nobody else changed it meanwhile.

        Returns:
            The ids of files that somebody else changed, or deleted.
        """
        conflicts: set[str] = set()
        for status in read:
            result = await self._files.delete_one(as_read(status))
            if not result.deleted_count:
                conflicts.add(status.file_id)
        return conflicts

    @translated
    async def remove_unreadable(self, file_ids: Collection[str]) -> None:
        """Delete those of these documents that are none of this version, to be folded anew."""
        async for document in self._files.find({"_id": {"$in": list(file_ids)}}):
            try:
                to_status(document)
            except UnreadableDocumentError as error:
                log.error("removed, to be folded anew from the log: %s", error)
                as_found = {"_id": document["_id"], "position": document.get("position")}
                await self._files.delete_one(as_found)

    @translated
    async def drop_older(self, prefix: str, than: str) -> None:
        """Remove the collections of the same database whose names begin so and stand before one."""
        database = self._files.database
        named = {"name": {"$gte": prefix, "$lt": than}}
        for name in await database.list_collection_names(filter=named):
            log.warning("the collection %s was left behind and is dropped", name)
            await database.drop_collection(name)

    @translated
    async def drop(self) -> None:
        """Remove the collection."""
        await self._files.drop()


def _write(read: Status | None, new: Status) -> InsertOne[dict[str, Any]] | UpdateOne:
    if read is None:
        return InsertOne(to_document(new))
    return UpdateOne({"_id": read.file_id}, compare_and_set(read, new))

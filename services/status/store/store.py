"""The files in MongoDB: the queryable state. The only module that uses the driver."""

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
"""Milliseconds that one operation waits for a responding MongoDB server before it fails."""

CONNECT_TIMEOUT_MS = 3_000
"""Milliseconds for a connection attempt, and for the driver's own health check, which detects a
frozen mongod."""

SOCKET_TIMEOUT_MS = 15_000
"""Milliseconds for a response from MongoDB, and for a free connection.

A frozen mongod keeps its connections open. The largest batch takes about a second."""

FIND_WITHIN_MS = 3_000
"""Milliseconds that MongoDB may search for the files of one page. A filter that matches few of
millions may have no index of its own, and users do not wait longer for a list."""

DUPLICATE_KEY = 11000

UNENCODABLE = (BSONError, DocumentTooLarge, OverflowError, RecursionError, TypeError, ValueError)
"""Exceptions of the driver for a document that cannot be encoded. They do not identify it. No other
part of a write raises one."""

REFUSED = frozenset({2, 9, 14, 15, 22, 52, 53, 55, 56, 57, 121, 171, 10334, 17280, 17419, 17420})
"""Error codes with which MongoDB rejects a document because of its content: an invalid value, key
or type; too large or too deep; invalid by the rules of the collection. All other codes concern
MongoDB's own state and may be transient."""

P = ParamSpec("P")
R = TypeVar("R")


def translated(
    method: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Translate the driver's errors, and record whether MongoDB responds."""

    @wraps(method)
    async def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = await method(*args, **kwargs)
        except PyMongoError as error:
            _record_availability(args, is_away=isinstance(error, ConnectionFailure))
            raise MongoUnavailableError(f"MongoDB is unavailable: {error}") from error
        _record_availability(args, is_away=False)
        return result

    return translated


def _record_availability(args: tuple[object, ...], *, is_away: bool) -> None:
    if args and isinstance(args[0], FileStore):
        args[0].is_away = is_away


class FileStore:
    """The projected statuses: one document per file, `_id` = file_id.

    Every method raises `MongoUnavailableError` when MongoDB is unavailable.
    """

    def __init__(self, settings: Settings, *, collection: str = FILES) -> None:
        self._client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            settings.mongodb,
            tz_aware=True,
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            connectTimeoutMS=CONNECT_TIMEOUT_MS,
            socketTimeoutMS=SOCKET_TIMEOUT_MS,
            waitQueueTimeoutMS=SOCKET_TIMEOUT_MS,
            # The offsets of a batch are committed once it is stored. Without the journal, a mongod
            # that is killed could lose the writes it acknowledged within the last tenth of a
            # second.
            journal=True,
        )
        self._settings = settings
        self.is_away = False
        """True if MongoDB did not respond to the last request."""
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
        """Name of the collection."""
        return self._files.name

    def sibling(self, collection: str) -> "FileStore":
        """Return a store for another collection of the same database."""
        return FileStore(self._settings, collection=collection)

    def beside(self, name: str) -> AsyncIOMotorCollection[dict[str, Any]]:
        """Return an auxiliary collection that belongs to this one."""
        return self._files.database[f"{self._files.name}_{name}"]

    @translated
    async def prepare(self) -> None:
        """Create the indexes and drop those of earlier versions, which slow down writes."""
        await self._files.create_indexes(INDEXES)
        for former in set(OF_ALL.values()) & set(await self._files.index_information()):
            await self._files.drop_index(former)

    @translated
    async def get(self, file_id: str, visible_to: Visibility = EVERYTHING) -> Status | None:
        """Return one file, or None if it does not exist.

        Raises:
            UnreadableDocumentError: the document does not match this version's model.
        """
        document = await self._files.find_one({"_id": file_id, **visible_to.conditions()})
        return None if document is None else to_status(document)

    @translated
    async def get_many(
        self, file_ids: Collection[str], visible_to: Visibility = EVERYTHING
    ) -> dict[str, Status]:
        """Return the files that exist and whose documents are readable, by id."""
        cursor = self._files.find({"_id": {"$in": list(file_ids)}, **visible_to.conditions()})
        return {status.file_id: status for status in readable([each async for each in cursor])}

    @translated
    async def save(self, changes: Sequence[tuple[Status | None, Status]]) -> set[str]:
        """Write changed statuses in bulk, each only if no other writer has changed it since.

        Args:
            changes: pairs of the status that was read (None if it did not exist) and the new
                status.

        Returns:
            The ids of files that another writer changed: read them and fold again.

        Raises:
            UnstorableError: some documents cannot be stored because of their content; the rest is
                written.
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
                    refused[file_id] = f"MongoDB rejected the document: {fault['errmsg']}"
            modified = error.details["nModified"]
        except UNENCODABLE as error:
            return await self._save_by_halves(changes, error)
        except OperationFailure as error:
            if error.code not in REFUSED:
                raise
            return await self._save_by_halves(changes, error)
        if modified < len(replaced - refused.keys()):
            # The driver reports how many were not changed, but not which: read all of them again.
            conflicts |= replaced - refused.keys()
        if refused:
            raise UnstorableError(refused, conflicts)
        return conflicts

    async def _save_by_halves(
        self, changes: Sequence[tuple[Status | None, Status]], error: Exception
    ) -> set[str]:
        """Write changes that include unstorable ones: split them until each one is isolated.

        Raises:
            UnstorableError: some could not be written; the rest was.
        """
        if len(changes) == 1:
            refused = {changes[0][1].file_id: f"{type(error).__name__}: {error}"}
            raise UnstorableError(refused) from error
        middle = len(changes) // 2
        conflicts: set[str] = set()
        rejected: dict[str, str] = {}
        for half in (changes[:middle], changes[middle:]):
            try:
                conflicts |= await self.save(half)
            except UnstorableError as unstorable:
                conflicts |= unstorable.conflicts
                rejected |= unstorable.refused
        if rejected:
            raise UnstorableError(rejected, conflicts)
        return conflicts

    @translated
    async def find(
        self, query: Query, *, sort: Sort = Sort.NEWEST_FIRST, limit: int, after: ListCursor | None
    ) -> Page:
        """Return a page of files, without their histories. `after` is `next` of the previous page.

        Raises:
            TooWideSearchError: the search takes MongoDB longer than `FIND_WITHIN_MS`.
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
        # The next page begins after this one, however many of its documents are unreadable.
        behind = None if last is None else ListCursor.behind(last, sort)
        return Page(list(readable(documents[:limit])), behind)

    @translated
    async def index_names(self, limit: int, *, older_than: float = 0.0) -> int:
        """Add search keys to documents that have none; return how many were written."""
        return await self._names.index_some(limit, older_than=older_than)

    @translated
    async def counts(self, visible_to: Visibility = EVERYTHING) -> dict[FileState, int]:
        """Return the number of files of each status, without deleted ones.

        Most files are completed, so their number is the total minus all others.
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
        """Return the number of files of each status among those that match a query."""
        wanted = conditions(query, Sort.NEWEST_FIRST, None)
        return {
            state: await self._count({"$and": [*wanted, {"status": state.value}]})
            for state in FileState
        }

    async def _count(self, condition: Mapping[str, Any]) -> int:
        # This command counts the keys of an index. The driver's own method uses an aggregation.
        counted = await self._files.database.command(
            "count", self._files.name, query=condition, maxTimeMS=FIND_WITHIN_MS
        )
        return int(counted["n"])

    @translated
    async def oldest(self, state: FileState, visible_to: Visibility = EVERYTHING) -> Status | None:
        """Return the file of a status with the earliest upload, or None."""
        wanted = {"status": state.value, "deleted_at": None, **visible_to.conditions()}
        found = self._files.find(wanted, {"history": 0})
        documents = await found.sort("_id", ASCENDING).limit(1).to_list(None)
        return next(readable(documents), None)

    @translated
    async def to_erase(self, limit: int) -> list[Status]:
        """Return deleted files that may still have stored data."""
        found = self._files.find({"to_erase": True}).limit(limit)
        return list(readable([document async for document in found]))

    @translated
    async def to_cancel(self, state: FileState, limit: int) -> list[Status]:
        """Return files of a status whose current run has a cancel request."""
        wanted = {"cancel_run": {"$gt": 0}, "status": state.value, "deleted_at": None}
        found = self._files.find(wanted).limit(limit)
        return list(readable([document async for document in found]))

    @translated
    async def erased(self, read: Status) -> None:
        """Record that all data of a file is erased, unless the file has changed since."""
        await self._files.update_one(as_read(read), {"$unset": {"to_erase": ""}})

    async def scan(self) -> AsyncIterator[Status]:
        """Yield every file, in the order of the ids."""
        try:
            async for document in self._files.find().sort("_id", ASCENDING):
                for status in readable([document]):
                    yield status
        except PyMongoError as error:
            raise MongoUnavailableError(f"MongoDB is unavailable: {error}") from error

    @translated
    async def remove(self, read: Collection[Status]) -> set[str]:
        """Delete documents, each only if no other writer has changed it since.

        Returns:
            The ids of files that another writer changed or deleted.
        """
        conflicts: set[str] = set()
        for status in read:
            result = await self._files.delete_one(as_read(status))
            if not result.deleted_count:
                conflicts.add(status.file_id)
        return conflicts

    @translated
    async def remove_unreadable(self, file_ids: Collection[str]) -> None:
        """Delete unreadable documents among these, so that they can be refolded."""
        async for document in self._files.find({"_id": {"$in": list(file_ids)}}):
            try:
                to_status(document)
            except UnreadableDocumentError as error:
                log.error("removed to be refolded from the log: %s", error)
                as_found = {"_id": document["_id"], "position": document.get("position")}
                await self._files.delete_one(as_found)

    @translated
    async def drop_older(self, prefix: str, than: str) -> None:
        """Drop the collections with this prefix whose names sort before another name."""
        database = self._files.database
        named = {"name": {"$gte": prefix, "$lt": than}}
        for name in await database.list_collection_names(filter=named):
            log.warning("dropping the abandoned collection %s", name)
            await database.drop_collection(name)

    @translated
    async def drop(self) -> None:
        """Drop the collection."""
        await self._files.drop()


def _write(read: Status | None, new: Status) -> InsertOne[dict[str, Any]] | UpdateOne:
    if read is None:
        return InsertOne(to_document(new))
    return UpdateOne({"_id": read.file_id}, compare_and_set(read, new))

"""Search by a part of the name, in the collection of files; `name_keys.py` builds the conditions.

The store owns the collection and handles its errors.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.status.store.name_keys import KEYS, by_keys, name_fields, windows
from services.status.store.query import Sort
from services.status.store.stored_documents import replace_if
from shared.events.ids import file_id_age
from shared.events.moments import utc_now

BY_NAME = "by_name"
"""The index of the name keys."""

MAX_NAMED = 2000
"""Candidates whose names are compared one by one, which takes at most a tenth of a second. With
more candidates, a scan in list order finds the first page quickly."""


class NameSearch:
    """Finds a few files among many by a part of their names."""

    def __init__(
        self, files: Any, update: Callable[..., Any], *, within_ms: Callable[[], int]
    ) -> None:
        """Search one collection.

        Args:
            files: the collection.
            update: the driver's update of one document.
            within_ms: returns the milliseconds that MongoDB may take for a query.
        """
        self._files = files
        self._update = update
        self._within_ms = within_ms

    async def find(
        self, part: str, wanted: Sequence[Mapping[str, Any]], *, sort: Sort, limit: int
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None] | None:
        """Return the documents of a page in order, and the place of the last one if there are more.

        None if too many files may match; the caller then searches in list order.

        Args:
            wanted: all conditions of the list, including the one on the name.
        """
        few = await self._few(part)
        if few is None:
            return None
        # Read only the sort keys of all matches first, then the documents of the page.
        keys = ("updated_at", "_id") if sort.is_by_change else ("_id",)
        found = self._files.find({"$and": [few, *wanted]}, {"updated_at": 1}).hint(BY_NAME)
        places = await found.max_time_ms(self._within_ms()).to_list(None)
        places.sort(key=lambda each: [each[key] for key in keys], reverse=sort.descends)
        order = {place["_id"]: rank for rank, place in enumerate(places[:limit])}
        # A file may have changed owner or state since, so all conditions are checked again.
        shown = {"$and": [{"_id": {"$in": list(order)}}, *wanted]}
        found = self._files.find(shown, {"history": 0}).hint("_id_")
        documents: list[dict[str, Any]] = await found.max_time_ms(self._within_ms()).to_list(None)
        documents.sort(key=lambda each: order[each["_id"]])
        return documents, places[limit - 1] if len(places) > limit else None

    async def _few(self, part: str) -> Mapping[str, Any] | None:
        """Return the condition that finds the candidates, or None if there are too many."""
        for window in windows(part):
            condition = by_keys(window)
            counted = await self._files.database.command(
                "count",
                self._files.name,
                query=condition,
                limit=MAX_NAMED + 1,
                hint=BY_NAME,
                maxTimeMS=self._within_ms(),
            )
            if counted["n"] <= MAX_NAMED:
                return condition
        return None

    async def index_some(self, limit: int, *, older_than: float) -> int:
        """Add keys to documents that have none; return how many were written.

        Nothing is written if another pod was faster or the name has changed.

        Args:
            limit: documents to examine, in insertion order.
            older_than: seconds since the upload; younger files are skipped.
        """
        found = self._files.find({KEYS: None}, {"name": 1}).hint(BY_NAME).limit(limit)
        now = utc_now()
        ages = [(each, file_id_age(each["_id"], now)) for each in await found.to_list(None)]
        documents = [each for each, age in ages if age is None or age >= older_than]
        if not documents:
            return 0
        written = await self._files.bulk_write(list(map(self._indexed, documents)), ordered=False)
        return int(written.modified_count)

    def _indexed(self, document: Mapping[str, Any]) -> Any:
        """Return the write that adds keys to a document, unless its name has changed since.

        As in `compare_and_set`, a condition in the filter would dominate the cost.
        """
        name = document.get("name")
        is_same = {"$eq": [{"$ifNull": ["$name", None]}, {"$literal": name}]}
        indexed = {"$mergeObjects": ["$$ROOT", {"$literal": name_fields(name)}]}
        return self._update({"_id": document["_id"]}, replace_if(is_same, indexed))

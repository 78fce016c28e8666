"""Search by a part of the name, in the collection of files; what is asked there is in `names.py`.

The collection is the store's, and its errors as well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.status.store.name_keys import KEYS, by_keys, name_fields, windows
from services.status.store.query import Sort
from shared.events.ids import file_id_age
from shared.events.moments import utc_now

BY_NAME = "by_name"
"""The index of the keys of names."""

MAX_NAMED = 2000
"""Files whose names may hold what is searched for that are looked at one by one, in a tenth of a
second at most. Of more, the first ones are soon found in the order of the list."""


class NameSearch:
    """Finds few files among many by a part of their names."""

    def __init__(
        self, files: Any, update: Callable[..., Any], *, within_ms: Callable[[], int]
    ) -> None:
        """Args:
        files: the collection.
        update: the driver's update of one document.
        within_ms: how many milliseconds MongoDB may take for a query.
        """
        self._files = files
        self._update = update
        self._within_ms = within_ms

    async def find(
        self, part: str, wanted: Sequence[Mapping[str, Any]], *, sort: Sort, limit: int
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None] | None:
        """Return the documents of a page in order, and the place of the last one if there are more.

        None if too many files may match; those who ask look in the order of the list then.

        Args:
            wanted: all conditions on a file of the list, that on its name among them.
        """
        few = await self._few(part)
        if few is None:
            return None
        # First only the places of all that match, then the documents of the page.
        keys = ("updated_at", "_id") if sort.is_by_change else ("_id",)
        found = self._files.find({"$and": [few, *wanted]}, {"updated_at": 1}).hint(BY_NAME)
        places = await found.max_time_ms(self._within_ms()).to_list(None)
        places.sort(key=lambda each: [each[key] for key in keys], reverse=sort.descends)
        order = {place["_id"]: rank for rank, place in enumerate(places[:limit])}
        # A file that has changed meanwhile may be another's by now, so all is asked again.
        shown = {"$and": [{"_id": {"$in": list(order)}}, *wanted]}
        found = self._files.find(shown, {"history": 0}).hint("_id_")
        documents: list[dict[str, Any]] = await found.max_time_ms(self._within_ms()).to_list(None)
        documents.sort(key=lambda each: order[each["_id"]])
        return documents, places[limit - 1] if len(places) > limit else None

    async def _few(self, part: str) -> Mapping[str, Any] | None:
        """Return the condition that finds the files that may match, if they are few."""
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
        """Give keys to documents that have none; returns to how many.

        Where somebody else was faster, or the name has changed, nothing is written.

        Args:
            limit: documents to look at; those that were stored first come first.
            older_than: seconds since the upload; younger files are left as they are.
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
        """Return the write that gives keys to a document, unless its name has changed since.

        As of `compare_and_set`, a condition in the filter would cost more than all else.
        """
        name = document.get("name")
        is_same = {"$eq": [{"$ifNull": ["$name", None]}, {"$literal": name}]}
        indexed = {"$mergeObjects": ["$$ROOT", {"$literal": name_fields(name)}]}
        replace = {"$replaceWith": {"$cond": [is_same, indexed, "$$ROOT"]}}
        return self._update({"_id": document["_id"]}, [replace])

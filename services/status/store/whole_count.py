"""How many files there are in all, deleted ones among them.

MongoDB keeps the number of documents of a collection, so reading it is fast at any size. After an
unclean shutdown that number is wrong, and stays wrong. So the documents are counted one by one for
each process of MongoDB, and the difference is added from then on.

The collection is the store's, and its errors as well.
"""

import time
from typing import Any

COUNT_WITHIN_MS = 15_000
"""Milliseconds to count the keys of an index: some millions a second."""

RECOUNT_AFTER = 60.0
"""Seconds until the next exact count, where files came during the last one: until one finds a
moment in which none does, the difference is good to those few."""

ALL = {"_id": {"$gt": ""}}
"""A condition that every file fulfils, so that MongoDB counts instead of remembering."""


class WholeCount:
    """Counts the documents of the collection."""

    def __init__(self, files: Any) -> None:
        """Args:
        files: the collection.
        """
        self._files = files
        self._process: object = self
        """Which process of MongoDB the difference is of; none at first."""
        self._difference = 0
        self._is_exact = False
        self._counted_at = 0.0

    async def read(self) -> int:
        """Return how many documents there are."""
        hello = await self._files.database.command("hello")
        process = hello.get("topologyVersion", {}).get("processId")
        is_old = not self._is_exact and time.monotonic() - self._counted_at > RECOUNT_AFTER
        if process != self._process or is_old:
            await self._compare()
            self._process, self._counted_at = process, time.monotonic()
        told: int = await self._files.estimated_document_count()
        return max(0, told + self._difference)

    async def _compare(self) -> None:
        before = await self._files.estimated_document_count()
        counted = await self._files.database.command(
            "count", self._files.name, query=ALL, maxTimeMS=COUNT_WITHIN_MS
        )
        after = await self._files.estimated_document_count()
        self._difference = int(counted["n"]) - after
        self._is_exact = before == after

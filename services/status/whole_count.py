"""How many files there are in all, deleted ones among them.

MongoDB keeps the number of documents of a collection, so reading it is fast at any size. After an
unclean shutdown that number is wrong, and stays wrong. So the documents are counted one by one once
for each process of MongoDB, and the difference is added from then on.

The collection is the store's, and its errors as well.
"""

from typing import Any

COUNT_WITHIN_MS = 15_000
"""Milliseconds to count the keys of an index: some millions a second."""

TRIES = 5
"""Exact counts while files come in: the next one may find a moment in which none does. After these,
the difference is good to the few files that came meanwhile."""

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
        self._tries = 0

    async def read(self) -> int:
        """Return how many documents there are."""
        hello = await self._files.database.command("hello")
        process = hello.get("topologyVersion", {}).get("processId")
        if process != self._process:
            await self._compare(process)
        told: int = await self._files.estimated_document_count()
        return max(0, told + self._difference)

    async def _compare(self, process: object) -> None:
        before = await self._files.estimated_document_count()
        counted = await self._files.database.command(
            "count", self._files.name, query=ALL, maxTimeMS=COUNT_WITHIN_MS
        )
        after = await self._files.estimated_document_count()
        self._difference = int(counted["n"]) - after
        self._tries += 1
        if before == after or self._tries >= TRIES:
            self._process, self._tries = process, 0

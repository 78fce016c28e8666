"""The total number of files, including deleted ones.

MongoDB maintains the number of documents of a collection, so reading it is fast at any size. After
an unclean shutdown that number is wrong, and stays wrong. The documents are therefore counted once
per MongoDB process, and the difference is added from then on.

The store owns the collection and handles its errors.
"""

import time
from typing import Any

COUNT_WITHIN_MS = 15_000
"""Milliseconds that counting the keys of an index may take: some millions a second."""

RECOUNT_AFTER = 60.0
"""Seconds until the next exact count if files arrived during the last one. Until a count finds a
quiet moment, the difference is off by those few files."""

ALL = {"_id": {"$gt": ""}}
"""Matches every file, but makes MongoDB count instead of returning its stored number."""


class WholeCount:
    """Counts the documents of the collection."""

    def __init__(self, files: Any) -> None:
        """Count the documents of one collection.

        Args:
            files: the collection.
        """
        self._files = files
        self._process: object = self
        """The MongoDB process for which the difference was measured; at first, none."""
        self._difference = 0
        self._is_exact = False
        self._counted_at = 0.0

    async def read(self) -> int:
        """Return the number of documents."""
        hello = await self._files.database.command("hello")
        process = hello.get("topologyVersion", {}).get("processId")
        is_old = not self._is_exact and time.monotonic() - self._counted_at > RECOUNT_AFTER
        if process != self._process or is_old:
            await self._compare()
            self._process, self._counted_at = process, time.monotonic()
        estimated: int = await self._files.estimated_document_count()
        return max(0, estimated + self._difference)

    async def _compare(self) -> None:
        before = await self._files.estimated_document_count()
        counted = await self._files.database.command(
            "count", self._files.name, query=ALL, maxTimeMS=COUNT_WITHIN_MS
        )
        after = await self._files.estimated_document_count()
        self._difference = int(counted["n"]) - after
        self._is_exact = before == after

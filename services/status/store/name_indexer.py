"""The name index: gives search keys to the documents that have none.

A file gets its keys with its end, in the same write. This loop gives them to files that are under
way for long, and to documents of versions that made none. Searches find documents without keys as
well; see `names.py`.
"""

import asyncio
import time

from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop

UNDER_WAY = 60.0
"""Seconds since its upload in which a file is left to get its keys with its end: keys that are
written for themselves cost MongoDB as much as all else that is written of a short file."""

AT_ONCE = 500
"""Documents between two pauses."""

SHARE = 9
"""How many times as long as its work the loop pauses: for nine tenths of the time at least, the
projector has MongoDB for itself."""

INTERVAL = 1.0
"""Seconds between two looks for documents without keys, once few are left or another pod gives
them theirs: an index has just those."""


class NameIndexer:
    """Indexes the names of files that have not ended soon.

    Every status pod runs one, and nobody claims anything: pods that look at the same moment find
    the same documents, and each is written by one of them, since a write needs a document without
    keys. What the others lose is a look at `AT_ONCE` documents and writes that match nothing. A pod
    that wrote less than half of what it may steps back for `INTERVAL`: so one at most goes on.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def run(self, loop: RunningLoop) -> None:
        """Index names until cancelled.

        Raises:
            UnavailableError: MongoDB does not answer.
        """
        while True:
            begun = time.monotonic()
            indexed = await self._store.index_names(AT_ONCE, older_than=UNDER_WAY)
            loop.succeeded()
            took = time.monotonic() - begun
            await asyncio.sleep(pause_after(indexed, took))


def pause_after(indexed: int, took: float) -> float:
    """Seconds to pause after a step of so many seconds that gave keys to so many documents."""
    is_busy = indexed > AT_ONCE // 2
    return SHARE * took if is_busy else max(INTERVAL, SHARE * took)

"""The name index: adds search keys to documents that have none.

A file gets its keys in the write that stores its outcome. This loop adds keys to files that take
long to finish, and to documents of versions without keys. Searches also find documents without
keys; see `name_keys.py`.
"""

import asyncio
import time

from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop

MIN_AGE = 60.0
"""Age in seconds of an upload below which a file gets its keys with its outcome. A separate write
for the keys costs MongoDB as much as all other writes of a short file."""

BATCH_SIZE = 500
"""Documents between two pauses."""

PAUSE_FACTOR = 9
"""Ratio of the pause to the time of the preceding work: the loop leaves MongoDB to the projector
for at least nine tenths of the time."""

INTERVAL = 1.0
"""Seconds between two checks once few documents without keys are left, or another pod is indexing
them. An index holds only those documents."""


class NameIndexer:
    """Indexes the names of files that do not finish soon.

    Every status pod runs one, without locks. Pods that check at the same moment find the same
    documents, but writing the same keys again changes nothing, so each is written once. The other
    pods lose one read of `BATCH_SIZE` documents and writes without effect. A pod that
    wrote less than half of its limit pauses for `INTERVAL`, so that at most one continues.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def run(self, loop: RunningLoop) -> None:
        """Index names until cancelled.

        Raises:
            UnavailableError: MongoDB is unavailable.
        """
        while True:
            begun = time.monotonic()
            indexed = await self._store.index_names(BATCH_SIZE, older_than=MIN_AGE)
            loop.succeeded()
            took = time.monotonic() - begun
            await asyncio.sleep(pause_after(indexed, took))


def pause_after(indexed: int, took: float) -> float:
    """Return the seconds to pause after a step.

    Args:
        indexed: documents that the step added keys to.
        took: duration of the step in seconds.
    """
    is_busy = indexed > BATCH_SIZE // 2
    return PAUSE_FACTOR * took if is_busy else max(INTERVAL, PAUSE_FACTOR * took)

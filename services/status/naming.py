"""The name index: gives search keys to the documents that the projector wrote without them.

The keys cost MongoDB more than the document, so the projector leaves them out, and a burst of
uploads is not held up by them. Searches find documents without keys as well; see `names.py`.
"""

import asyncio
import time

from services.status.store import FileStore
from shared.supervision import RunningLoop

AT_ONCE = 500
"""Documents between two pauses."""

SHARE = 9
"""How many times as long as its work the loop pauses: for nine tenths of the time at least, the
projector has MongoDB for itself."""

INTERVAL = 1.0
"""Seconds between two looks for documents without keys, once all have them: an index has just
those."""


class NameIndexer:
    """Indexes the names of all files."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def run(self, loop: RunningLoop) -> None:
        """Index names until cancelled.

        Raises:
            UnavailableError: MongoDB does not answer.
        """
        while True:
            begun = time.monotonic()
            indexed = await self._store.index_names(AT_ONCE)
            loop.succeeded()
            took = time.monotonic() - begun
            await asyncio.sleep(SHARE * took if indexed == AT_ONCE else max(INTERVAL, SHARE * took))

"""Read documents for the hub, which must not wait for an unreachable or frozen MongoDB."""

import logging
import time
from collections.abc import Collection

from services.status.projection.projection import Status
from services.status.store.store import FileStore
from shared.deadlines import within
from shared.errors import MongoUnavailableError, UnavailableError

log = logging.getLogger(__name__)

READ_WITHIN = 1.0
"""Seconds that the hub waits for documents. MongoDB normally answers within milliseconds; a frozen
one would stall all streams."""

RETRY_DELAY = 2.0
"""Seconds between a failed read and the next attempt."""

CATCH_UP = 60.0
"""Seconds after an outage during which the projector may still be catching up."""


MAX_UNSTORED = 1000
"""Records that the projector may have yet to store when states are dropped. What is dropped changed
before the last change of 50,000 others, and so stands well before these in its partition."""


class DocumentReader:
    """Reads documents by id while MongoDB answers, and remembers when it did not."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._retry_at = float("-inf")
        """Monotonic seconds."""
        self._failed_at = float("-inf")
        self.is_away = False
        """True if the last read failed."""

    def is_caught_up(self, now: float, *, unstored: int | None) -> bool:
        """Return True if the projector has stored the states that changed least recently.

        One that is dropped before that is lost until the projector comes to it: its file would be
        answered as it was before, or 404. A minute after an outage the projector has normally
        caught up; after a long one it may not have, which its lag tells. Where the lag is not
        known, Kafka does not answer, and the tail brings little that would have to be held.

        Args:
            now: monotonic seconds.
            unstored: records that the projector has yet to store; None if that is not known.
        """
        has_had_time = not self.is_away and now - self._failed_at > CATCH_UP
        return has_had_time and (unstored is None or unstored <= MAX_UNSTORED)

    async def read(self, file_ids: Collection[str]) -> dict[str, Status] | None:
        """Return the documents that exist, or None if MongoDB does not answer."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            async with within(READ_WITHIN, MongoUnavailableError()):
                found = await self._store.get_many(file_ids)
        except UnavailableError as error:
            if not self.is_away:
                log.warning("live states go on without MongoDB: %s", error)
            self.is_away, self._failed_at = True, time.monotonic()
            self._retry_at = self._failed_at + RETRY_DELAY
            return None
        if self.is_away:
            log.info("MongoDB answers again")
            self.is_away = False
        return found

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
"""Maximum lag of the projector, in records, at which the hub may drop states. A dropped state is
older than the last change of 50,000 other files, and so stands well before these records in its
partition."""


class DocumentReader:
    """Reads documents by id, and remembers whether MongoDB is unavailable."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._retry_at = float("-inf")
        """Monotonic seconds."""
        self._failed_at = float("-inf")
        self.is_away = False
        """True if the last read failed."""

    def is_caught_up(self, now: float, *, unstored: int | None) -> bool:
        """Return True if the projector has stored the states that changed least recently.

        A state that is dropped earlier is lost until the projector stores it: its file would be
        returned as it was before, or with 404. One minute after an outage the projector has
        normally caught up. After a long outage its lag decides. If the lag is unknown, Kafka is
        unavailable, and the tail delivers little that would have to be held.

        Args:
            now: monotonic seconds.
            unstored: records that the projector has yet to store; None if unknown.
        """
        has_had_time = not self.is_away and now - self._failed_at > CATCH_UP
        return has_had_time and (unstored is None or unstored <= MAX_UNSTORED)

    async def read(self, file_ids: Collection[str]) -> dict[str, Status] | None:
        """Return the documents that exist, or None if MongoDB is unavailable."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            async with within(READ_WITHIN, MongoUnavailableError()):
                found = await self._store.get_many(file_ids)
        except UnavailableError as error:
            if not self.is_away:
                log.warning("live updates continue without MongoDB: %s", error)
            self.is_away, self._failed_at = True, time.monotonic()
            self._retry_at = self._failed_at + RETRY_DELAY
            return None
        if self.is_away:
            log.info("MongoDB is available again")
            self.is_away = False
        return found

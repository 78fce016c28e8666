"""Create topics and indexes before a status pod starts, and keep its publisher connected."""

import asyncio
import time

from services.status.live.cursor_seal import CursorSeal, installation_key
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.errors import KafkaUnavailableError
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.settings import Settings

CHECK_INTERVAL = 2.0
"""Seconds between two checks that Kafka responds."""

RECONNECT_AFTER = 20.0
"""Seconds without a response after which the publisher reconnects. This is longer than Kafka takes
to elect a leader."""


class Preparation:
    """Creates topics and indexes once, and keeps the publisher connected."""

    def __init__(
        self, settings: Settings, store: FileStore, publisher: Publisher, seal: CursorSeal
    ) -> None:
        self._settings = settings
        self._store = store
        self._publisher = publisher
        self._seal = seal
        self.done = asyncio.Event()
        """Set once the topics and indexes exist and the publisher is connected."""

    async def run(self, loop: RunningLoop) -> None:
        """Create topics and indexes, then keep the publisher connected until cancelled.

        Raises:
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        if not self.done.is_set():
            await create_topics(self._settings, patience=RECONNECT_AFTER)
            await self._store.prepare()
            self._seal.use(await installation_key(self._store))
        async with self._publisher:
            self.done.set()
            answered_at = time.monotonic()
            while time.monotonic() - answered_at < RECONNECT_AFTER:
                if await self._publisher.answers():
                    loop.succeeded()
                    answered_at = time.monotonic()
                await asyncio.sleep(CHECK_INTERVAL)
        raise KafkaUnavailableError(f"Kafka did not respond for {RECONNECT_AFTER:g} s")

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

LOOK_EVERY = 2.0
"""Seconds between two looks whether Kafka answers."""

PATIENCE = 20.0
"""Seconds without an answer after which the connection is made anew; above the pauses in which
Kafka elects another leader."""


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
        """Set once topics and indexes are there and the publisher is connected."""

    async def run(self, loop: RunningLoop) -> None:
        """Prepare, and keep the publisher connected until cancelled.

        Raises:
            UnavailableError: Kafka or MongoDB does not answer.
        """
        if not self.done.is_set():
            await create_topics(self._settings, patience=PATIENCE)
            await self._store.prepare()
            self._seal.use(await installation_key(self._store))
        async with self._publisher:
            self.done.set()
            answered_at = time.monotonic()
            while time.monotonic() - answered_at < PATIENCE:
                if await self._publisher.answers():
                    loop.succeeded()
                    answered_at = time.monotonic()
                await asyncio.sleep(LOOK_EVERY)
        raise KafkaUnavailableError(f"Kafka did not answer the publisher for {PATIENCE:g} s")

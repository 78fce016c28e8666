"""The outbox: events that Kafka did not take wait in the blob store, where nothing is lost.

A relay on every pod publishes what waits there, from whichever pod it is, oldest first, as soon as
Kafka answers. Two relays may publish the same event, or one may publish what Kafka had after all: a
repeat is harmless, since its id is the same.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.upload.link import KafkaLink
from services.upload.patience import Patience
from services.upload.settings import UploadSettings
from shared.bloberrors import BlobMissingError
from shared.blobs import BlobStore
from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError
from shared.events import FileUploaded
from shared.outbox import UPLOADS, file_id_of, relay_commands, upload_key
from shared.publishing import Publisher
from shared.telemetry import OUTBOX
from shared.topics import UPLOADED

log = logging.getLogger(__name__)

PREFIX = UPLOADS

VERDICT_GRACE = 1.0
"""Seconds that Kafka's client may overrun the time it was given: its own verdict says more than
ours, which ends the wait in any case."""

LOOK_EVERY = 1.0
"""Seconds between two looks while something waits: a file is delayed by as much at most."""

LOOK_SELDOM = 30.0
"""Seconds between two looks while nothing is known to wait: other pods may have left something."""

LIMIT = 10_000
"""Events that may wait, as far as this pod knows: at 100 uploads a second more than a minute and a
half without Kafka."""

NO_ROOM = "Kafka does not answer, and too many files wait for it; send this one again later."

AT_ONCE = 50
"""Events that are on their way to Kafka together."""


class Outbox:
    """What waits for Kafka, and the relay that publishes it."""

    def __init__(
        self, *, settings: UploadSettings, blobs: BlobStore, publisher: Publisher, link: KafkaLink
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._publisher = publisher
        self._topic = settings.topic_prefix + UPLOADED.name
        self._link = link
        self._patience = Patience()
        self._waiting = 0
        self._kept = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why events can neither be published nor wait; None while they can."""
        if self._waiting < LIMIT:
            return None
        return f"{self._waiting} events wait for Kafka, as many as the outbox takes"

    @property
    def note(self) -> str | None:
        """What an operator should know meanwhile; None if there is nothing."""
        if self._link.trouble is None and not self._waiting:
            return None
        return f"{self._link.trouble or 'Kafka answers'}; {self._waiting} events wait in the outbox"

    def check_room(self) -> None:
        """Raises:
        KafkaUnavailableError: events can neither be published nor wait.
        """
        if self._link.trouble is not None and self.trouble is not None:
            raise KafkaUnavailableError(NO_ROOM)

    async def publish(self, event: FileUploaded) -> None:
        """Have an event durable: in Kafka, or here until Kafka takes it.

        Kafka may yet store an event whose acknowledgement was lost, so that it is there twice. That
        is harmless: its id is the same. For the same reason an event that neither has acknowledged
        may be there all the same.

        Raises:
            KafkaUnavailableError: too many wait already.
            BlobStoreUnavailableError: the blob store does not take it.
        """
        if self._link.trouble is None:
            try:
                with self._patience.of(self._settings.publish_timeout + VERDICT_GRACE):
                    await self._publisher.publish(event)
            except (TimeoutError, KafkaUnavailableError) as error:
                log.warning("the event of %s goes to the outbox: %r", event.file_id, error)
            else:
                return
        await self._keep(event)

    async def _keep(self, event: FileUploaded) -> None:
        if self.trouble is not None:
            raise KafkaUnavailableError(NO_ROOM)
        try:
            await self._blobs.put(upload_key(event.file_id), event.to_json())
            self._count(self._waiting + 1)
        finally:  # It may be there although the store did not say so.
            self._kept.set()

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        """Publish what waits, in the background of the `with` block."""
        relaying = asyncio.create_task(self._relay())
        try:
            yield
        finally:
            relaying.cancel()
            with suppress(asyncio.CancelledError):
                await relaying

    async def _relay(self) -> None:
        while True:
            if self._link.trouble is not None:
                await asyncio.sleep(LOOK_EVERY)
                continue
            self._kept.clear()
            try:
                await self._publish_waiting()
            except (BlobStoreUnavailableError, KafkaUnavailableError) as error:
                log.warning("%d events wait in the outbox: %s", self._waiting, error)
            if self._waiting:
                await asyncio.sleep(LOOK_EVERY)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SELDOM):
                        await self._kept.wait()

    async def _publish_waiting(self) -> None:
        # First what users want no more: a processor that finds the request begins nothing.
        await relay_commands(self._blobs, self._publisher)
        keys = await self._blobs.keys(f"{PREFIX}/")  # The ids are sorted by time.
        self._count(len(keys))
        for begin in range(0, len(keys), AT_ONCE):
            await asyncio.gather(*map(self._relay_one, keys[begin : begin + AT_ONCE]))
        if keys:
            log.info("published %d events that had waited for Kafka", len(keys))

    async def _relay_one(self, key: str) -> None:
        file_id = file_id_of(key)
        with suppress(BlobMissingError):  # Another pod was faster.
            await self._publisher.put_back(self._topic, file_id, await self._blobs.get(key))
            await self._blobs.delete(key)
        self._count(self._waiting - 1)

    def _count(self, waiting: int) -> None:
        self._waiting = max(0, waiting)
        OUTBOX.set(self._waiting)

"""The outbox: events that Kafka did not take wait in the blob store, where nothing is lost.

A relay on every pod publishes what waits there, from whichever pod it is, oldest first, as soon as
Kafka answers. Two relays may publish the same event, or one may publish what Kafka had after all: a
repeat is harmless, since its id is the same.
"""

import asyncio
import logging
from contextlib import suppress

from services.upload.coarse_timeouts import CoarseTimeouts
from services.upload.kafka_connection import KafkaConnection
from services.upload.settings import UploadSettings
from shared.background.supervision import RunningLoop
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.deadlines import blob_store_answers
from shared.errors import KafkaUnavailableError, UnavailableError
from shared.events.events import FileUploaded
from shared.events.topics import UPLOADED
from shared.kafka.publishing import Publisher
from shared.outbox import (
    UPLOADS,
    DamagedUploadError,
    file_id_of,
    read_upload,
    relay_commands,
    upload_key,
)
from shared.telemetry import OUTBOX

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
        self,
        *,
        settings: UploadSettings,
        blobs: BlobStore,
        publisher: Publisher,
        link: KafkaConnection,
    ) -> None:
        self._settings = settings
        self._blobs = blobs
        self._publisher = publisher
        self._topic = settings.topic_prefix + UPLOADED.name
        self._link = link
        self._timeouts = CoarseTimeouts()
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
            raise KafkaUnavailableError(NO_ROOM, public=True)

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
                with self._timeouts.of(self._settings.publish_timeout + VERDICT_GRACE):
                    await self._publisher.publish(event)
            except (TimeoutError, KafkaUnavailableError) as error:
                log.warning("the event of %s goes to the outbox: %r", event.file_id, error)
            else:
                return
        await self._keep(event)

    async def _keep(self, event: FileUploaded) -> None:
        if self.trouble is not None:
            raise KafkaUnavailableError(NO_ROOM, public=True)
        try:
            await self._blobs.put(upload_key(event.file_id), event.to_json())
            self._count(self._waiting + 1)
        finally:  # It may be there although the store did not say so.
            self._kept.set()

    async def relay(self, loop: RunningLoop) -> None:
        """Publish what waits, until cancelled.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
        """
        while True:
            if self._link.trouble is not None:
                loop.waits_for("Kafka")
                self._count(self._waiting)  # As long as nobody can relay, what is known is true.
                await asyncio.sleep(LOOK_EVERY)
                continue
            self._kept.clear()
            try:
                await self._publish_waiting()
                loop.succeeded()
            except KafkaUnavailableError as error:
                loop.waits_for("Kafka")
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
        async with blob_store_answers():
            keys = await self._blobs.keys(f"{PREFIX}/")  # The ids are sorted by time.
        self._count(len(keys))
        failure: BaseException | None = None
        for begin in range(0, len(keys), AT_ONCE):
            some = keys[begin : begin + AT_ONCE]
            results = await asyncio.gather(*map(self._relay_one, some), return_exceptions=True)
            for key, result in zip(some, results, strict=True):
                if isinstance(result, BaseException):
                    failure = failure or result
                    if not isinstance(result, UnavailableError):
                        log.error("%s stays in the outbox", key, exc_info=result)
        if failure is not None:
            raise failure
        if keys:
            log.info("published %d events that had waited for Kafka", len(keys))

    async def _relay_one(self, key: str) -> None:
        file_id = file_id_of(key)
        # Another pod may have been faster; what is damaged stays, and does not wait for Kafka.
        with suppress(BlobMissingError, DamagedUploadError):
            async with blob_store_answers():
                content = await self._blobs.get(key)
            read_upload(content, file_id)
            await self._publisher.put_back(self._topic, file_id, content)
            async with blob_store_answers():
                await self._blobs.delete(key)
        self._count(self._waiting - 1)

    def _count(self, waiting: int) -> None:
        self._waiting = max(0, waiting)
        OUTBOX.set(self._waiting)

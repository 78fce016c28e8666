"""The outbox: events that Kafka did not acknowledge are kept in the blob store.

A relay on every pod publishes all outbox events, from any pod, oldest first, once Kafka is
available. Two relays may publish the same event, or one that Kafka already has. Both are harmless,
because the event's id is the same.
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

PUBLISH_GRACE = 1.0
"""Seconds that the Kafka client may exceed its own timeout. Its error is more precise than the
outer timeout."""

POLL_INTERVAL = 1.0
"""Seconds between two relay passes while events wait, and the maximum delay they add."""

IDLE_POLL_INTERVAL = 30.0
"""Seconds between two relay passes while no event is known to wait. Other pods may have left
some."""

MAX_WAITING = 10_000
"""Maximum events in the outbox, as far as this pod knows: over 90 seconds without Kafka at 100
uploads a second."""

OUTBOX_FULL = "Kafka does not answer and the outbox is full; send the file again later."

MAX_CONCURRENT = 50
"""Events that are published concurrently."""


class Outbox:
    """Events waiting for Kafka, and the relay that publishes them."""

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
        self._event_added = asyncio.Event()

    @property
    def unavailable_reason(self) -> str | None:
        """Reason why the outbox is full; None while it has room."""
        if self._waiting < MAX_WAITING:
            return None
        return f"the outbox is full: {self._waiting} events wait for Kafka"

    @property
    def note(self) -> str | None:
        """A note for operators on the readiness page; None if all is well."""
        if self._link.unavailable_reason is None and not self._waiting:
            return None
        state = self._link.unavailable_reason or "Kafka answers"
        return f"{state}; {self._waiting} events wait in the outbox"

    def check_room(self) -> None:
        """Check that an event could be published or kept.

        Raises:
            KafkaUnavailableError: Kafka is unavailable and the outbox is full.
        """
        if self._link.unavailable_reason is not None and self.unavailable_reason is not None:
            raise KafkaUnavailableError(OUTBOX_FULL, public=True)

    async def publish(self, event: FileUploaded) -> None:
        """Make an event durable: in Kafka, or in the outbox until Kafka is available.

        If an acknowledgement was lost, Kafka may store the event twice. This is harmless, because
        its id is the same. For the same reason, an event that neither side acknowledged may still
        be stored.

        Raises:
            KafkaUnavailableError: The outbox is full.
            BlobStoreUnavailableError: The blob store does not accept the event.
        """
        if self._link.unavailable_reason is None:
            try:
                with self._timeouts.timeout(self._settings.publish_timeout + PUBLISH_GRACE):
                    await self._publisher.publish(event)
            except (TimeoutError, KafkaUnavailableError) as error:
                log.warning("the event of %s goes to the outbox: %r", event.file_id, error)
            else:
                return
        await self._keep(event)

    async def _keep(self, event: FileUploaded) -> None:
        if self.unavailable_reason is not None:
            raise KafkaUnavailableError(OUTBOX_FULL, public=True)
        try:
            await self._blobs.put(upload_key(event.file_id), event.to_json())
            self._count(self._waiting + 1)
        finally:  # The event may be stored despite the error.
            self._event_added.set()

    async def relay(self, loop: RunningLoop) -> None:
        """Publish the events in the outbox until cancelled.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        while True:
            if self._link.unavailable_reason is not None:
                loop.waits_for("Kafka")
                self._count(self._waiting)  # No pod can relay now, so the count holds.
                await asyncio.sleep(POLL_INTERVAL)
                continue
            self._event_added.clear()
            try:
                await self._publish_waiting()
                loop.succeeded()
            except KafkaUnavailableError as error:
                loop.waits_for("Kafka")
                log.warning("%d events wait in the outbox: %s", self._waiting, error)
            if self._waiting:
                await asyncio.sleep(POLL_INTERVAL)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_POLL_INTERVAL):
                        await self._event_added.wait()

    async def _publish_waiting(self) -> None:
        # Commands first: a processor that sees a cancellation does not start the file.
        await relay_commands(self._blobs, self._publisher)
        async with blob_store_answers():
            keys = await self._blobs.keys(f"{PREFIX}/")  # Ids sort by time.
        self._count(len(keys))
        failure: BaseException | None = None
        for begin in range(0, len(keys), MAX_CONCURRENT):
            some = keys[begin : begin + MAX_CONCURRENT]
            results = await asyncio.gather(*map(self._relay_one, some), return_exceptions=True)
            for key, result in zip(some, results, strict=True):
                if isinstance(result, BaseException):
                    failure = failure or result
                    if not isinstance(result, UnavailableError):
                        log.error(
                            "%s cannot be published and stays in the outbox", key, exc_info=result
                        )
        if failure is not None:
            raise failure
        if keys:
            log.info("published %d events that had waited for Kafka", len(keys))

    async def _relay_one(self, key: str) -> None:
        file_id = file_id_of(key)
        # Another pod may have relayed it. A damaged entry stays and does not block the others.
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

"""How files end, followed for de-duplication: what failed, was cancelled or deleted counts no more.

At least once: group `deduplication`, from the beginning of the log; an offset is committed when all
below it is in the blob store, where doing it twice is harmless. The pods share the partitions, and
each finds what the others stored.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from services.upload.duplicates import Duplicates
from shared.connection import kafka_options
from shared.consuming import DeadLetterWriter, RecordHandler
from shared.errors import UnavailableError
from shared.events import FileCancelled, FileDeleted, FileFailed
from shared.messaging import SESSION_TIMEOUT_MS, group_name, read_record, topic_names
from shared.publishing import Publisher
from shared.reading import UnreadableEventError
from shared.settings import Settings
from shared.topics import LIFECYCLE

log = logging.getLogger(__name__)

GROUP = "deduplication"

POLL_TIMEOUT_MS = 500
MAX_RECORDS = 2_000
"""Of one poll: few of them are of files that end badly."""

RETRY_DELAY = 2.0
"""Seconds before what Kafka or the blob store kept from being done is tried again."""


class Endings:
    """Follows the lifecycle of files."""

    def __init__(
        self, settings: Settings, duplicates: Duplicates, publisher: Publisher | None = None
    ) -> None:
        self._settings = settings
        self._duplicates = duplicates
        letters = DeadLetterWriter(publisher, source="/upload")
        self._handler = RecordHandler(GROUP, letters)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follow in the background of the `with` block."""
        following = asyncio.create_task(self._run())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (UnavailableError, KafkaError, OSError) as error:
                log.warning("endings of files are not followed: %r", error)
                await asyncio.sleep(RETRY_DELAY)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            **kafka_options(self._settings),
            client_id="upload-endings",
            group_id=group_name(self._settings, GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 3,
        )
        consumer.subscribe(topic_names(self._settings, (LIFECYCLE,)))
        try:
            # Cancelled on its way into the group, it would stay a member that does nothing.
            await consumer.start()
            while True:
                batches = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS
                )
                for records in batches.values():
                    for record in records:
                        await self._handler.handle(record, partial(self._see_to, record))
                if batches:
                    await consumer.commit()
        finally:
            await consumer.stop()

    async def _see_to(self, record: ConsumerRecord) -> None:
        try:
            logged = read_record(record)
        except UnreadableEventError:
            return  # The projector puts it to the dead letters.
        match logged and logged.event:
            case FileFailed() | FileCancelled() as event:
                await self._duplicates.ended(event.file_id)
            case FileDeleted() as event:
                await self._duplicates.forget(event.file_id)

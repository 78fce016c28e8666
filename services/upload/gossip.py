"""Pods tell each other what owners use of their allowances: topic `upload.usage`.

Only where an owner is limited in something. Nobody waits for it: while Kafka is away, each pod
counts what it takes itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from aiokafka.errors import KafkaError

from services.upload.link import KafkaLink
from services.upload.settings import UploadSettings
from services.upload.usage import DAY, Usage
from shared.consuming import note_error, place_of
from shared.errors import KafkaUnavailableError
from shared.log import POLL_TIMEOUT_MS, open_log, seek_to
from shared.publishing import Publisher
from shared.topics import USAGE

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two reports: for so long, and the way through Kafka, pods do not know of each
other's uploads. A pod that takes none reports nothing."""

LAST_WORD = 1.0
"""Seconds that a pod which ends has to report what it took at last."""

MAX_RECORDS = 300
"""Reports that are heard in one go: a millisecond, for which uploads wait."""

RETRY_DELAY = 2.0
"""Seconds before Kafka is asked again."""


class Gossip:
    """Tells the other pods, and listens to them."""

    def __init__(
        self,
        *,
        settings: UploadSettings,
        usage: Usage,
        publisher: Publisher,
        link: KafkaLink,
    ) -> None:
        self._settings = settings
        self._usage = usage
        self._publisher = publisher
        self._link = link

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Tell and listen in the background of the `with` block."""
        tasks = [asyncio.create_task(each) for each in (self._tell_always(), self._listen_always())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    for _ in range(2):  # What was on its way, and what came since.
                        await self._tell()

    async def _tell_always(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self._tell()

    async def _tell(self) -> None:
        """Tell what is new. What Kafka does not take is told again; it may have it after all."""
        if self._link.trouble is not None or (report := self._usage.report()) is None:
            return
        try:
            await self._publisher.tell(USAGE, report.pod, report.model_dump_json().encode())
        except KafkaUnavailableError as error:
            log.warning("the other pods are not told what owners use: %s", error)
        else:
            self._usage.sent()

    async def _listen_always(self) -> None:
        while True:
            try:
                await self._listen()
            except (KafkaUnavailableError, KafkaError, OSError) as error:
                log.warning("what owners use on other pods is not heard: %r", error)
                await asyncio.sleep(RETRY_DELAY)

    async def _listen(self) -> None:
        """Hear the reports of the last day, and all that come."""
        async with open_log(self._settings, (USAGE,), client_id="upload-usage") as (
            consumer,
            partitions,
        ):
            if not partitions:
                raise KafkaUnavailableError(f"there is no topic {USAGE.name}")
            await seek_to(consumer, partitions, datetime.now(UTC) - timedelta(seconds=DAY))
            while True:
                batches = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS
                )
                for records in batches.values():
                    for record in records:
                        try:
                            self._usage.hear(record.value or b"")
                        except Exception as error:
                            # One report that is not counted; the next one of its pod is.
                            note_error("quota sync", error, place_of(record))
                await asyncio.sleep(0)  # What is there comes without a wait, for seconds at first.

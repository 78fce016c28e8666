"""Pods tell each other what owners use of their allowances: topic `upload.usage`.

Only where an owner is limited in something. Nobody waits for it: while Kafka is away, each pod
counts what it takes itself.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from services.upload.kafka_connection import KafkaConnection
from services.upload.quotas.usage import DAY, Usage
from services.upload.settings import UploadSettings
from shared.background.supervision import RunningLoop
from shared.errors import KafkaUnavailableError
from shared.events.topics import USAGE
from shared.kafka.connection import Answers
from shared.kafka.consuming import note_error, place_of
from shared.kafka.log import POLL_TIMEOUT_MS, open_log, seek_to
from shared.kafka.publishing import Publisher

log = logging.getLogger(__name__)

EVERY = 0.5
"""Seconds between two reports: for so long, and the way through Kafka, pods do not know of each
other's uploads. A pod that takes none reports nothing."""

LAST_WORD = 1.0
"""Seconds that a pod which ends has to report what it took at last."""

MAX_RECORDS = 300
"""Reports that are heard in one go: a millisecond, for which uploads wait."""


class QuotaSync:
    """Tells the other pods, and listens to them."""

    def __init__(
        self,
        *,
        settings: UploadSettings,
        usage: Usage,
        publisher: Publisher,
        link: KafkaConnection,
    ) -> None:
        self._settings = settings
        self._usage = usage
        self._publisher = publisher
        self._link = link

    @asynccontextmanager
    async def last_word(self) -> AsyncIterator[None]:
        """Report at the end of the `with` block what this pod took at last."""
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD):
                    for _ in range(2):  # What was on its way, and what came since.
                        await self._tell()

    async def tell(self, loop: RunningLoop) -> None:
        """Tell what is new, twice a second, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            if await self._tell():
                loop.succeeded()
            else:
                loop.waits_for("Kafka")

    async def _tell(self) -> bool:
        """Tell what is new; False if Kafka did not take it. It is told again, and may be there."""
        if self._link.trouble is not None:
            return False
        if (report := self._usage.report()) is None:
            return True
        try:
            await self._publisher.publish_value(
                USAGE, report.pod, report.model_dump_json().encode()
            )
        except KafkaUnavailableError as error:
            log.warning("the other pods are not told what owners use: %s", error)
            return False
        self._usage.sent()
        return True

    async def listen(self, loop: RunningLoop) -> None:
        """Hear the reports of the last day, and all that come, until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer.
        """
        async with open_log(self._settings, (USAGE,), client_id="upload-usage") as (
            consumer,
            partitions,
        ):
            if not partitions:
                raise KafkaUnavailableError(f"there is no topic {USAGE.name}")
            await seek_to(consumer, partitions, datetime.now(UTC) - timedelta(seconds=DAY))
            answers = Answers(consumer)
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
                if answers.check(brought=bool(batches)):
                    loop.succeeded()
                await asyncio.sleep(0)  # What is there comes without a wait, for seconds at first.

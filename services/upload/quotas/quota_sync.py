"""Share per-owner usage between pods through the topic `upload.usage`.

This runs only if a per-owner limit is set. No upload waits for it: while Kafka is unavailable, each
pod counts its own uploads.
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

REPORT_INTERVAL = 0.5
"""Seconds between two reports. Until then, plus the latency of Kafka, other pods do not know of an
upload. A pod without uploads reports nothing."""

FINAL_REPORT_TIMEOUT = 1.0
"""Seconds that a stopping pod has to publish its last report."""

MAX_RECORDS = 300
"""Reports handled in one go. This takes a millisecond, during which uploads wait."""


class QuotaSync:
    """Publishes this pod's usage and consumes that of the other pods."""

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
    async def final_report(self) -> AsyncIterator[None]:
        """Publish the last report of this pod at the end of the block."""
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(FINAL_REPORT_TIMEOUT):
                    for _ in range(2):  # The pending report, and usage since then.
                        await self._publish_report()

    async def publish_reports(self, loop: RunningLoop) -> None:
        """Publish new usage twice a second until cancelled."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            if await self._publish_report():
                loop.succeeded()
            else:
                loop.waits_for("Kafka")

    async def _publish_report(self) -> bool:
        """Publish new usage; return False if Kafka did not acknowledge it.

        The same report is then sent again. Kafka may have it already.
        """
        if self._link.unavailable_reason is not None:
            return False
        if (report := self._usage.report()) is None:
            return True
        try:
            await self._publisher.publish_value(
                USAGE, report.pod, report.model_dump_json().encode()
            )
        except KafkaUnavailableError as error:
            log.warning("per-owner usage is not reported to the other pods: %s", error)
            return False
        self._usage.sent()
        return True

    async def consume_reports(self, loop: RunningLoop) -> None:
        """Consume the reports of the last day and all new ones until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer.
        """
        async with open_log(self._settings, (USAGE,), client_id="upload-usage") as (
            consumer,
            partitions,
        ):
            if not partitions:
                raise KafkaUnavailableError(f"the topic {USAGE.name} does not exist")
            await seek_to(consumer, partitions, datetime.now(UTC) - timedelta(seconds=DAY))
            answers = Answers(consumer)
            while True:
                batches = await consumer.getmany(
                    timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_RECORDS
                )
                for records in batches.values():
                    for record in records:
                        try:
                            self._usage.apply(record.value or b"")
                        except Exception as error:
                            # Skip the report. The next one of its pod counts again.
                            note_error("quota sync", error, place_of(record))
                if answers.check(brought=bool(batches)):
                    loop.succeeded()
                await asyncio.sleep(0)  # A backlog is returned without waiting.

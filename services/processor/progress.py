"""Publish progress reports from workers to Kafka without delaying the work."""

import asyncio
import logging

from services.processor.channel import Advanced
from services.processor.reports import MAX_MESSAGE, MAX_NAME
from shared.errors import WaybillError
from shared.events.events import FileProgressed, ProgressedData
from shared.events.facts import Progress, furthest
from shared.events.storable import clean_text
from shared.kafka.consuming import note_error, raise_if_cancelled
from shared.kafka.publishing import Publisher

log = logging.getLogger(__name__)


class ProgressReporter:
    """Publishes the progress of one attempt, one event at a time.

    While an event is being published, a newer report replaces the waiting one. A slow Kafka
    therefore costs detail, but no memory or time.
    """

    def __init__(
        self,
        publisher: Publisher,
        file_id: str,
        counts: dict[str, int],
    ) -> None:
        self._publisher = publisher
        self._file_id = file_id
        self._counts = counts
        self._seq = 0
        self._waiting: Advanced | None = None
        self._publishing: asyncio.Task[None] | None = None
        self.latest: Progress | None = None

    def advance(self, report: Advanced) -> None:
        """Accept a report. It is published once the previous one is.

        Progress never decreases: a new phase keeps what the attempt has reached.
        """
        self.latest = furthest(self.latest, report.progress)
        self._waiting = Advanced(
            phase=clean_text(report.phase, MAX_NAME),
            progress=self.latest,
            message=report.message and clean_text(report.message, MAX_MESSAGE),
        )
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish_waiting())

    async def _publish_waiting(self) -> None:
        try:
            while self._waiting is not None:
                report, self._waiting = self._waiting, None
                await self._publish(report)
        finally:
            self._publishing = None

    async def _publish(self, report: Advanced) -> None:
        self._seq += 1
        data = ProgressedData(
            **self._counts,
            seq=self._seq,
            phase=report.phase,
            progress=report.progress,
            message=report.message,
        )
        event = FileProgressed.of(self._file_id, data, source="/processor")
        try:
            await self._publisher.publish(event)
        except WaybillError as error:
            log.warning("%s", error)  # The next report supersedes it; the work continues.
        except (Exception, asyncio.CancelledError) as error:
            raise_if_cancelled()
            note_error("progress", error, self._file_id)

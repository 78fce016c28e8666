"""Progress on its way from a worker to Kafka: it never holds up the work."""

import asyncio
import logging

from services.processor.channel import Advanced
from shared.errors import WaybillError
from shared.events import FileProgressed, ProgressedData
from shared.facts import Progress
from shared.publishing import Publisher

log = logging.getLogger(__name__)


class ProgressReporter:
    """Publishes the progress of one attempt, at most one event at a time.

    While one is on its way a newer one replaces the one that waits, so a slow Kafka costs detail
    and neither memory nor time.
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
        """Take note of a report; it is published as soon as the one before it is."""
        self.latest = report.progress
        self._waiting = report
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish_waiting())

    async def _publish_waiting(self) -> None:
        while self._waiting is not None:
            report, self._waiting = self._waiting, None
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
                log.warning("%s", error)  # The next report tells more; the work goes on.
        self._publishing = None

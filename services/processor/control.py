"""Cancel requests: every pod reads `file.control` from the beginning, without a consumer group.

At least once: a request stays in the compacted topic until its file is terminal, so a pod that
starts reads all requests that still apply. A pod starts no work before it has read them.
"""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from shared.background.supervision import RunningLoop
from shared.deadlines import kafka_answers
from shared.events.events import CancelRequestedData, FileCancelRequested
from shared.events.reading import UnreadableEventError
from shared.events.topics import CONTROL
from shared.kafka.connection import Answers
from shared.kafka.consuming import note_error, place_of
from shared.kafka.log import end_offsets, open_log, position
from shared.kafka.messaging import read_record
from shared.settings import Settings

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS = 1000


class CancelRequests:
    """The files whose processing somebody has asked to cancel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.on_request: Callable[[str], None] = lambda _: None
        """Called with the `file_id` of each incoming request."""
        self._requested: dict[str, CancelRequestedData] = {}
        self.loaded = asyncio.Event()
        """Set once all requests that existed at startup are loaded."""

    def of(self, file_id: str, run: int) -> CancelRequestedData | None:
        """Return the request to cancel this run of a file, or None.

        A request for a later run also cancels earlier ones, which had ended when it was made.
        """
        request = self._requested.get(file_id)
        if request is None or (request.run != run and run > request.ended_runs):
            return None
        return request

    def concerns(self, file_id: str, run: int) -> bool:
        """Return True if a request is settled once this run of the file is terminal.

        A request for an earlier run stays. The status service ends files that are waiting, so the
        record of that run may still be queued.
        """
        request = self._requested.get(file_id)
        return request is not None and request.run == run

    async def follow(self, loop: RunningLoop) -> None:
        """Follow the topic until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer. A new run rereads the topic.
        """
        async with open_log(self._settings, (CONTROL,), client_id="processor-control") as (
            consumer,
            partitions,
        ):
            async with kafka_answers("the start of the cancel requests"):
                await consumer.seek_to_beginning(*partitions)
            ends = await end_offsets(consumer, partitions)
            answers = Answers(consumer)
            while [p for p in partitions if await position(consumer, p) < ends[p]]:
                await self._poll(consumer)
                answers.check(brought=False)
            self.loaded.set()
            while True:
                await self._poll(consumer)
                if answers.check(brought=False):
                    loop.succeeded()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        for records in (await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)).values():
            for record in records:
                try:
                    self._note(record)
                except Exception as error:
                    # The request is stored already and applies to work accepted from now on.
                    note_error("control", error, place_of(record))

    def _note(self, record: ConsumerRecord) -> None:
        file_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._requested.pop(file_id, None)
            return
        try:
            logged = read_record(record)
        except UnreadableEventError as error:
            log.warning("unreadable cancel request for %s: %s", file_id, error)
            return
        if logged is not None and isinstance(logged.event, FileCancelRequested):
            known = self._requested.get(file_id)
            if known is not None and known.run > logged.event.data.run:
                return  # A late duplicate of a request for an earlier run.
            self._requested[file_id] = logged.event.data
            self.on_request(file_id)

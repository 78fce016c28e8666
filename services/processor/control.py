"""The wishes of users: every pod follows `file.control` from its beginning, without a group.

At least once: a wish is in the compacted topic until the file it is about is terminal, so a pod
that starts finds all that still count. A pod takes no work before it knows them.
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
    """The files that somebody wants the work on to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.on_request: Callable[[str], None] = lambda _: None
        """Called with the file_id of each request that comes in."""
        self._requested: dict[str, CancelRequestedData] = {}
        self.loaded = asyncio.Event()
        """Set once all requests that were there at the start are known."""

    def of(self, file_id: str, run: int) -> CancelRequestedData | None:
        """The request to stop this run of a file, if there is one.

        A request for a later run stops the earlier ones too, which had ended when it was made.
        """
        request = self._requested.get(file_id)
        if request is None or (request.run != run and run > request.ended_runs):
            return None
        return request

    def concerns(self, file_id: str, run: int) -> bool:
        """Whether there is a request that is settled once this run of the file is terminal.

        One for an earlier run stays: the record of that run may still wait for a processor, since
        the status service ends a file that waits.
        """
        request = self._requested.get(file_id)
        return request is not None and request.run == run

    async def follow(self, loop: RunningLoop) -> None:
        """Take note of requests until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer; another run reads all again.
        """
        async with open_log(self._settings, (CONTROL,), client_id="processor-control") as (
            consumer,
            partitions,
        ):
            async with kafka_answers("where the requests to cancel begin"):
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
                    # The request is noted already, and holds for work that is taken from now on.
                    note_error("control", error, place_of(record))

    def _note(self, record: ConsumerRecord) -> None:
        file_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._requested.pop(file_id, None)
            return
        try:
            logged = read_record(record)
        except UnreadableEventError as error:
            log.warning("unreadable wish of a user about %s: %s", file_id, error)
            return
        if logged is not None and isinstance(logged.event, FileCancelRequested):
            known = self._requested.get(file_id)
            if known is not None and known.run > logged.event.data.run:
                return  # A late repeat of a request for an earlier run.
            self._requested[file_id] = logged.event.data
            self.on_request(file_id)

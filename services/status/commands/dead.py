"""Dead letters, read from `file.dead` on request.

They are neither cached nor projected: there are few, and operators look at them only occasionally.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict

from shared.errors import KafkaUnavailableError
from shared.events.events import FileDead, Timestamp
from shared.events.facts import DeadCode, DeadData
from shared.events.reading import UnreadableEventError
from shared.events.topics import DEAD
from shared.kafka.log import open_log, read_range
from shared.kafka.messaging import read_record
from shared.settings import Settings

log = logging.getLogger(__name__)

MAX_SCANNED = 2000
"""Letters per partition that are searched for a code. One fetch of 1 MB is in memory at a time, and
only matching letters are kept."""

READ_TIMEOUT = 15.0
"""Seconds after which a read of the letters is abandoned and fails with 503."""

MAX_READS = 2
"""Concurrent reads on one pod. Each has its own connection and fetch."""


class DeadLetter(BaseModel):
    """A dead letter as the API returns it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Partition and offset in `file.dead`, separated by a dash."""
    file_id: str
    time: Timestamp
    source: str
    data: DeadData

    @classmethod
    def of(cls, event: FileDead, record: ConsumerRecord) -> "DeadLetter":
        return cls(
            id=f"{record.partition}-{record.offset}",
            file_id=event.file_id,
            time=event.time,
            source=event.source,
            data=event.data,
        )

    def without_payload(self) -> "DeadLetter":
        """Return a copy without the record's value, which may be long."""
        return self.model_copy(update={"data": self.data.model_copy(update={"payload": ""})})


class DeadLetters:
    """Reads the dead letters of one installation.

    Every method raises `KafkaUnavailableError` when Kafka does not respond in time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(MAX_READS)

    async def newest(self, *, limit: int, code: DeadCode | None) -> list[DeadLetter]:
        """Return the newest letters, newest first, without their payloads.

        Args:
            code: only letters with this code, among the last `MAX_SCANNED` of each partition.
        """
        newest: list[DeadLetter] = []
        async with self._reader() as (consumer, partitions):
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                found: deque[DeadLetter] = deque(maxlen=limit)
                begin = max(begins[partition], ends[partition] - (MAX_SCANNED if code else limit))
                async for letter in _read(consumer, partition, begin, ends[partition]):
                    if code is None or letter.data.code == code:
                        found.append(letter.without_payload())
                newest.extend(found)
        newest.sort(key=lambda letter: (letter.time, letter.id), reverse=True)
        return newest[:limit]

    async def get(self, partition: int, offset: int) -> DeadLetter | None:
        """Return one letter, or None if it does not exist or has expired."""
        async with self._reader() as (consumer, partitions):
            place = next((each for each in partitions if each.partition == partition), None)
            if place is None:
                return None
            begin = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            if not begin <= offset < end:
                return None
            return await anext(_read(consumer, place, offset, offset + 1), None)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
        try:
            async with (
                asyncio.timeout(READ_TIMEOUT),
                self._places,
                open_log(self._settings, (DEAD,), client_id="dead-letters") as opened,
            ):
                yield opened
        except (KafkaError, TimeoutError, OSError) as error:
            raise KafkaUnavailableError(
                f"The dead letters could not be read from Kafka: {error!r}"
            ) from error


async def _read(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int
) -> AsyncIterator[DeadLetter]:
    """Yield the letters of an offset range, in order. `end` is exclusive."""
    async for record in read_range(consumer, partition, begin, end):
        if (letter := _letter(record)) is not None:
            yield letter


def _letter(record: ConsumerRecord) -> DeadLetter | None:
    try:
        logged = read_record(record)
    except UnreadableEventError as error:
        log.warning("unreadable dead letter %d-%d: %s", record.partition, record.offset, error)
        return None
    if logged is None or not isinstance(logged.event, FileDead):
        return None
    return DeadLetter.of(logged.event, record)

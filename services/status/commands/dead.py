"""The dead letters: read from `file.dead` when somebody asks.

Nothing of them is held or projected: they are few, and an operator looks at them now and then.
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
"""Letters of each partition that are looked at for those of one code. One fetch at a time, 1 MB,
is in memory, and only what is answered is kept of it."""

READ_WITHIN = 15.0
"""Seconds until a reading of the letters is given up and answered 503."""

AT_ONCE = 2
"""Readings at the same time on one pod: each has a connection and a fetch of its own."""


class DeadLetter(BaseModel):
    """A dead letter as the API gives it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Its place in `file.dead`: partition and offset, with a dash between."""
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
        """The same without the record's value, which may be long."""
        return self.model_copy(update={"data": self.data.model_copy(update={"payload": ""})})


class DeadLetters:
    """Reads the letters of one installation.

    Every method raises `KafkaUnavailableError` when Kafka does not answer in time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = asyncio.Semaphore(AT_ONCE)

    async def newest(self, *, limit: int, code: DeadCode | None) -> list[DeadLetter]:
        """The newest letters, newest first, without their payloads.

        Args:
            code: only these, as far as they are among the last `MAX_SCANNED` of a partition.
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
        """One letter, or None if there is none at this place, or none any more."""
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
                asyncio.timeout(READ_WITHIN),
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
    """The letters from one offset to before another, in order."""
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

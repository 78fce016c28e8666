"""Stretches of the log, and reading them about in the order in which things happened.

The events of one file stand in the partitions of one number, one in each topic. Those are read side
by side, the one that is furthest behind in time first: so most files begin and end within one block
and are folded in one go.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.errors import KafkaUnavailableError
from shared.log import PATIENCE, open_log
from shared.messaging import KafkaRecord
from shared.settings import Settings
from shared.topics import EVENT_TOPICS

BLOCK = 2_000
"""Records that are folded in one go: some 15 MB of memory."""

BATCH = 500
"""Records of one partition that are taken before the times are compared again."""

POLL_TIMEOUT_MS = 200

WAIT_MS = 5
"""A fetch beyond the end of one number must not hold up the first one of the next."""


@dataclass(frozen=True)
class Stretch:
    """A part of one partition."""

    topic: str
    """The name that it has in this installation."""
    number: int
    begin: int
    """The first offset."""
    end: int
    """The offset after the last."""

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.number)

    def __len__(self) -> int:
        return max(0, self.end - self.begin)


@dataclass(frozen=True)
class Block:
    """Records of the partitions of one number, and what is still to be read of those."""

    number: int
    records: Sequence[KafkaRecord]
    rest: Sequence[Stretch]


async def whole_log(settings: Settings, *, until: datetime | None = None) -> list[Stretch]:
    """The event topics from their beginning to their present end.

    Args:
        until: leave out what came at this time or later, by the clocks of those who published it.

    Raises:
        KafkaError: Kafka does not answer.
    """
    async with open_log(settings, EVENT_TOPICS, client_id="replay") as (consumer, partitions):
        begins = await consumer.beginning_offsets(partitions)
        ends = dict(await consumer.end_offsets(partitions))
        if until is not None:
            moment = int(until.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
            ends |= {each: place.offset for each, place in found.items() if place is not None}
    return [
        Stretch(each.topic, each.partition, begins[each], max(begins[each], ends[each]))
        for each in partitions
    ]


async def read(settings: Settings, stretches: Collection[Stretch]) -> AsyncIterator[Block]:
    """Read stretches in blocks, those of one number to their ends before the next number's.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: it does not answer any more.
    """
    async with open_log(settings, EVENT_TOPICS, client_id="replay", wait_ms=WAIT_MS) as (
        consumer,
        partitions,
    ):
        # Of each partition that is not paused, Kafka brings a megabyte ahead.
        consumer.pause(*partitions)
        for number in sorted({each.number for each in stretches}):
            of_number = [each for each in stretches if each.number == number and each]
            for each in of_number:
                consumer.seek(each.partition, each.begin)
            consumer.resume(*(each.partition for each in of_number))
            async for block in _read_side_by_side(consumer, number, of_number):
                yield block
            consumer.pause(*(each.partition for each in of_number))


async def _read_side_by_side(
    consumer: AIOKafkaConsumer, number: int, stretches: Iterable[Stretch]
) -> AsyncIterator[Block]:
    left = {each.partition: each for each in stretches}
    reached = dict.fromkeys(left, 0)
    """The time of the last record of each, in milliseconds."""
    records: list[KafkaRecord] = []
    clock = asyncio.get_running_loop().time
    last_came = clock()
    while left:
        behind = min(left, key=reached.__getitem__)
        batches = await consumer.getmany(behind, timeout_ms=POLL_TIMEOUT_MS, max_records=BATCH)
        if batches:
            last_came = clock()
        elif clock() - last_came > PATIENCE:
            raise KafkaUnavailableError(f"Kafka has brought nothing of {behind} for {PATIENCE:g} s")
        stretch = left.pop(behind)
        for record in batches.get(behind, ()):
            reached[behind] = record.timestamp
            if record.offset < stretch.end:
                records.append(record)
        # Not the last record's: what a compacted topic has lost at its end never comes.
        stretch = replace(stretch, begin=await consumer.position(behind))
        if stretch:
            left[behind] = stretch
        if len(records) >= BLOCK or not left:
            yield Block(number, records, list(left.values()))
            records = []

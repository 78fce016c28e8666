"""Offset ranges of the log, read approximately in the order in which events happened.

The events of one file are in the partitions with one number, one in each topic. These are read side
by side, the partition with the earliest timestamp first. Most files therefore begin and end within
one block and are folded together.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.errors import KafkaUnavailableError
from shared.events.topics import EVENT_TOPICS
from shared.kafka.log import PATIENCE, open_log, open_partitions
from shared.kafka.messaging import KafkaRecord
from shared.settings import Settings

BLOCK = 2_000
"""Records that are folded together, about 8 kB each. With half as many, each takes a sixth more
time. Twice as many do not help."""

AHEAD = 2_000
"""Buffered records of a partition above which no more of it is fetched. A fetch returns one
megabyte, and the next should be in flight while these are folded."""

RUN = 20
"""Records of one partition that are taken before timestamps are compared again."""

POLL_TIMEOUT_MS = 200

WAIT_MS = 1
"""A fetch at the end of one partition number must not delay the start of the next."""


@dataclass(frozen=True)
class OffsetRange:
    """A part of one partition."""

    topic: str
    """The topic's name in this installation."""
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
    """Records from the partitions of one number, and the offset ranges still to be read."""

    number: int
    records: Sequence[KafkaRecord]
    rest: Sequence[OffsetRange]


async def whole_log(settings: Settings, *, until: datetime | None = None) -> list[OffsetRange]:
    """Return the offset ranges of the event topics, from their beginning to their current end.

    Args:
        until: exclude events at or after this time, by the clocks of their publishers.

    Raises:
        KafkaError: Kafka is unavailable.
    """
    async with open_log(settings, EVENT_TOPICS, client_id="replay") as (consumer, partitions):
        begins = await consumer.beginning_offsets(partitions)
        ends = dict(await consumer.end_offsets(partitions))
        if until is not None:
            moment = int(until.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
            ends |= {each: place.offset for each, place in found.items() if place is not None}
    return [
        OffsetRange(each.topic, each.partition, begins[each], max(begins[each], ends[each]))
        for each in partitions
    ]


async def read(settings: Settings, offset_ranges: Collection[OffsetRange]) -> AsyncIterator[Block]:
    """Yield the records of offset ranges in blocks, one partition number after another.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka stopped responding.
    """
    partitions = [each.partition for each in offset_ranges]
    async with open_partitions(
        settings, partitions, client_id="replay", wait_ms=WAIT_MS
    ) as consumer:
        # Kafka prefetches one megabyte of each partition that is not paused.
        consumer.pause(*partitions)
        for number in sorted({each.number for each in offset_ranges}):
            of_number = [each for each in offset_ranges if each.number == number and each]
            for each in of_number:
                consumer.seek(each.partition, each.begin)
            async for block in _read_side_by_side(consumer, number, of_number):
                yield block


async def _read_side_by_side(
    consumer: AIOKafkaConsumer, number: int, offset_ranges: Iterable[OffsetRange]
) -> AsyncIterator[Block]:
    buffers = {each.partition: _RangeBuffer(each) for each in offset_ranges}
    records: list[ConsumerRecord] = []
    while any(buffer.rest for buffer in buffers.values()):
        await _fill(consumer, buffers)
        _take(buffers.values(), records)
        rest = [buffer.rest for buffer in buffers.values() if buffer.rest]
        if len(records) >= BLOCK or not rest:
            yield Block(number, records, rest)
            records = []


class _RangeBuffer:
    """Buffers the records of one offset range."""

    def __init__(self, offset_range: OffsetRange) -> None:
        self._range = offset_range
        self._position = offset_range.begin
        self.ahead: deque[ConsumerRecord] = deque()

    def add(self, records: Iterable[ConsumerRecord], position: int) -> None:
        """Buffer records within the range, and remember the consumer's position."""
        self.ahead.extend(each for each in records if each.offset < self._range.end)
        # The last record's offset would not do: compaction may have removed records at the end.
        self._position = position

    @property
    def is_fetched(self) -> bool:
        """True if the whole range has been fetched."""
        return self._position >= self._range.end

    @property
    def wants_more(self) -> bool:
        """True if more of the range should be fetched."""
        return not self.is_fetched and len(self.ahead) < AHEAD

    @property
    def rest(self) -> OffsetRange:
        """The part of the range that has not been taken."""
        begin = self.ahead[0].offset if self.ahead else self._position
        return replace(self._range, begin=min(begin, self._range.end))


async def _fill(consumer: AIOKafkaConsumer, buffers: Mapping[TopicPartition, _RangeBuffer]) -> None:
    """Fetch until every unfinished buffer has at least one record.

    Fetched records are always taken over completely. Otherwise aiokafka pauses all fetching for 0.1
    s after a fetch that nobody consumed.
    """
    clock = asyncio.get_running_loop().time
    last_came = clock()
    timeout_ms = 0
    while True:
        batches = await consumer.getmany(timeout_ms=timeout_ms)
        if batches:
            last_came = clock()
        for partition, buffer in buffers.items():
            # The position advances without records too, where compaction has removed them.
            buffer.add(batches.get(partition, ()), await consumer.position(partition))
        # aiokafka drops fetches in flight for a paused partition, and starts new ones as soon as it
        # gets to run. So nothing may be awaited here in between.
        wanted = {partition for partition, buffer in buffers.items() if buffer.wants_more}
        consumer.pause(*(each for each in buffers if each not in wanted))
        consumer.resume(*wanted)
        behind = [each for each in wanted if not buffers[each].ahead]
        if not behind:
            return
        if clock() - last_came > PATIENCE:
            raise KafkaUnavailableError(
                f"Kafka has returned no records of {behind} for {PATIENCE:g} s"
            )
        timeout_ms = POLL_TIMEOUT_MS


def _take(buffers: Iterable[_RangeBuffer], records: list[ConsumerRecord]) -> None:
    """Take the earliest records, until a buffer is empty or the block is full."""
    going = [buffer.ahead for buffer in buffers if buffer.ahead]
    while going and len(records) < BLOCK:
        first = min(going, key=lambda ahead: ahead[0].timestamp)
        records.extend(first.popleft() for _ in range(min(RUN, len(first))))
        if not first:
            return

"""Stretches of the log, and reading them about in the order in which things happened.

The events of one file stand in the partitions of one number, one in each topic. Those are read side
by side, the one that is furthest behind in time first: so most files begin and end within one block
and are folded in one go.
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
"""Records that are folded in one go: at some 8 kB each. Half as many take a sixth more time
each, twice as many as much."""

AHEAD = 2_000
"""Records of one partition that are kept for later, before no more of it is fetched. A fetch brings
a megabyte, and the next one shall be under way while these are folded."""

RUN = 20
"""Records of one partition that are taken before the times are compared again."""

POLL_TIMEOUT_MS = 200

WAIT_MS = 1
"""A fetch beyond the end of one number must not hold up the first one of the next."""


@dataclass(frozen=True)
class OffsetRange:
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
    rest: Sequence[OffsetRange]


async def whole_log(settings: Settings, *, until: datetime | None = None) -> list[OffsetRange]:
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
        OffsetRange(each.topic, each.partition, begins[each], max(begins[each], ends[each]))
        for each in partitions
    ]


async def read(settings: Settings, offset_ranges: Collection[OffsetRange]) -> AsyncIterator[Block]:
    """Read stretches in blocks, those of one number to their ends before the next number's.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: it does not answer any more.
    """
    partitions = [each.partition for each in offset_ranges]
    async with open_partitions(
        settings, partitions, client_id="replay", wait_ms=WAIT_MS
    ) as consumer:
        # Of each partition that is not paused, Kafka brings a megabyte ahead.
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
    flows = {each.partition: _Flow(each) for each in offset_ranges}
    records: list[ConsumerRecord] = []
    while any(flow.rest for flow in flows.values()):
        await _fill(consumer, flows)
        _take(flows.values(), records)
        rest = [flow.rest for flow in flows.values() if flow.rest]
        if len(records) >= BLOCK or not rest:
            yield Block(number, records, rest)
            records = []


class _Flow:
    """What has come of a stretch, and is kept for later."""

    def __init__(self, offset_range: OffsetRange) -> None:
        self._stretch = offset_range
        self._position = offset_range.begin
        self.ahead: deque[ConsumerRecord] = deque()

    def add(self, records: Iterable[ConsumerRecord], position: int) -> None:
        """Keep what has come, up to the position; what is beyond the stretch is not kept."""
        self.ahead.extend(each for each in records if each.offset < self._stretch.end)
        # Not the last record's: what a compacted topic has lost at its end never comes.
        self._position = position

    @property
    def has_come(self) -> bool:
        """Whether all of it has come."""
        return self._position >= self._stretch.end

    @property
    def wants_more(self) -> bool:
        """Whether more of it is to be fetched."""
        return not self.has_come and len(self.ahead) < AHEAD

    @property
    def rest(self) -> OffsetRange:
        """What has not been taken."""
        begin = self.ahead[0].offset if self.ahead else self._position
        return replace(self._stretch, begin=min(begin, self._stretch.end))


async def _fill(consumer: AIOKafkaConsumer, flows: Mapping[TopicPartition, _Flow]) -> None:
    """Have something of each flow that has not ended.

    All that has come is taken over each time: aiokafka fetches nothing of any partition for 0.1 s
    after it has brought what nobody takes.
    """
    clock = asyncio.get_running_loop().time
    last_came = clock()
    timeout_ms = 0
    while True:
        batches = await consumer.getmany(timeout_ms=timeout_ms)
        if batches:
            last_came = clock()
        for partition, flow in flows.items():
            # The position moves on even where nothing comes, since what stood there was compacted.
            flow.add(batches.get(partition, ()), await consumer.position(partition))
        # What is in flight of a paused partition would be lost, and aiokafka fetches again of those
        # that were taken from as soon as it has its turn: so nothing is awaited in between.
        wanted = {partition for partition, flow in flows.items() if flow.wants_more}
        consumer.pause(*(each for each in flows if each not in wanted))
        consumer.resume(*wanted)
        behind = [each for each in wanted if not flows[each].ahead]
        if not behind:
            return
        if clock() - last_came > PATIENCE:
            raise KafkaUnavailableError(f"Kafka has brought nothing of {behind} for {PATIENCE:g} s")
        timeout_ms = POLL_TIMEOUT_MS


def _take(flows: Iterable[_Flow], records: list[ConsumerRecord]) -> None:
    """Add what came first in time to the records, until a flow is empty or the block is full."""
    going = [flow.ahead for flow in flows if flow.ahead]
    while going and len(records) < BLOCK:
        first = min(going, key=lambda ahead: ahead[0].timestamp)
        records.extend(first.popleft() for _ in range(min(RUN, len(first))))
        if not first:
            return

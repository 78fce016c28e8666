"""Reading topics without a consumer group: every partition, from any offset, nothing committed."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.structs import OffsetAndTimestamp

from shared.deadlines import kafka_answers
from shared.errors import KafkaUnavailableError
from shared.events.topics import Topic
from shared.kafka.connection import KAFKA_RETRY_DELAY, admin_client, close_consumer, kafka_options
from shared.kafka.messaging import topic_names
from shared.settings import Settings

POLL_TIMEOUT_MS = 500
"""How long one poll waits; what is there comes at once."""

NEWEST_WITHIN = 5.0
"""Seconds to read the last record of each partition; what came by then is enough."""

PATIENCE = 30.0
"""Seconds without a record that must be there, after which Kafka counts as gone."""


@asynccontextmanager
async def open_log(
    settings: Settings, topics: Iterable[Topic], *, client_id: str, wait_ms: int = 500
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of all partitions of some topics, which commits nothing.

    Args:
        wait_ms: how long Kafka keeps a fetch for which it has nothing; none can overtake it.

    Raises:
        KafkaError: Kafka does not answer.
        KafkaUnavailableError: it does not know all of these topics.
    """
    # Assigned by hand: a consumer that subscribes would take what its first metadata knows, and
    # that lacks topics which were created a moment ago.
    partitions = await _partitions_of(settings, topic_names(settings, topics))
    async with open_partitions(
        settings, partitions, client_id=client_id, wait_ms=wait_ms
    ) as consumer:
        yield consumer, partitions


async def _partitions_of(settings: Settings, names: list[str]) -> list[TopicPartition]:
    """All partitions of topics; of one that was just created a broker may not have heard yet."""
    deadline = time.monotonic() + PATIENCE
    async with admin_client(settings) as admin:
        while True:
            async with kafka_answers("the partitions of topics"):
                described = await admin.describe_topics(names)
            missing = [topic["topic"] for topic in described if not topic["partitions"]]
            if not missing:
                return [
                    TopicPartition(topic["topic"], partition["partition"])
                    for topic in described
                    for partition in topic["partitions"]
                ]
            if time.monotonic() > deadline:
                raise KafkaUnavailableError(
                    f"Kafka knows no topics {', '.join(missing)}; `waybill topics apply` makes them"
                )
            await asyncio.sleep(KAFKA_RETRY_DELAY)


@asynccontextmanager
async def open_partitions(
    settings: Settings,
    partitions: Collection[TopicPartition],
    *,
    client_id: str,
    wait_ms: int,
) -> AsyncIterator[AIOKafkaConsumer]:
    """The same of partitions that are known to be there.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: it does not answer.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        client_id=client_id,
        enable_auto_commit=False,
        fetch_max_wait_ms=wait_ms,
    )
    try:
        async with kafka_answers("the connection of a consumer"):
            await consumer.start()
        consumer.assign(partitions)
        # aiokafka cannot stop a consumer whose own task has not had its first turn.
        await asyncio.sleep(0)
        yield consumer
    finally:
        await close_consumer(consumer)


async def beginning_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The first offset that is kept of each partition; raises as `seek_to` does."""
    async with kafka_answers("where partitions begin"):
        found: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    return found


async def end_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offset after the last of each partition; raises as `seek_to` does."""
    async with kafka_answers("where partitions end"):
        found: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    return found


async def offsets_at(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], milliseconds: int
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """The first record of each partition from that Unix time on; raises as `seek_to` does."""
    async with kafka_answers("the offsets of a time"):
        found: dict[TopicPartition, OffsetAndTimestamp | None] = await consumer.offsets_for_times(
            dict.fromkeys(partitions, milliseconds)
        )
    return found


async def newest_time(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> datetime | None:
    """When the latest record of these partitions was appended; None if they have none.

    The consumer reads on elsewhere: seek before you read with it. Raises as `seek_to` does.

    Args:
        ends: the offset after the last record of each partition.
    """
    begins = await beginning_offsets(consumer, list(ends))
    waiting = {partition for partition, end in ends.items() if end > begins[partition]}
    for partition in waiting:
        consumer.seek(partition, ends[partition] - 1)
    newest: datetime | None = None
    deadline = time.monotonic() + NEWEST_WITHIN
    while waiting and time.monotonic() < deadline:
        for partition, records in (
            await consumer.getmany(*waiting, timeout_ms=POLL_TIMEOUT_MS)
        ).items():
            waiting.discard(partition)
            moment = datetime.fromtimestamp(records[-1].timestamp / 1000, UTC)
            newest = max(newest or moment, moment)
    return newest


async def position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """The offset of the next record that the consumer brings; raises as `seek_to` does."""
    async with kafka_answers("a position"):
        offset: int = await consumer.position(partition)
    return offset


async def seek_to(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], moment: datetime
) -> dict[TopicPartition, int]:
    """Go to where the records of a moment and later begin; returns where each partition ends.

    Raises:
        KafkaError: Kafka refuses to tell.
        KafkaUnavailableError: it does not answer.
    """
    milliseconds = int(moment.timestamp() * 1000)
    begins = await offsets_at(consumer, partitions, milliseconds)
    ends = await end_offsets(consumer, partitions)
    for partition in partitions:
        # None means that nothing came since.
        first = begins.get(partition)
        consumer.seek(partition, first.offset if first else ends[partition])
    return ends


async def read_range(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    """The records from one offset to before another, in order; one fetch at a time is in memory.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: it does not answer any more.
    """
    consumer.seek(partition, begin)
    clock = asyncio.get_running_loop().time
    last_came = clock()
    while await position(consumer, partition) < end:
        batches = await consumer.getmany(partition, timeout_ms=POLL_TIMEOUT_MS)
        if batches:
            last_came = clock()
        elif clock() - last_came > PATIENCE:
            raise KafkaUnavailableError(f"Kafka has brought nothing of {partition} any more")
        for record in batches.get(partition, ()):
            if record.offset < end:
                yield record

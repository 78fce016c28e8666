"""Reading topics without a consumer group: any partition, from any offset, without commits."""

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
"""Milliseconds that a poll waits for records. Available records are returned immediately."""

NEWEST_WITHIN = 5.0
"""Seconds to read the last record of each partition. Later records are ignored."""

PATIENCE = 30.0
"""Seconds to wait for a record or topic that must exist, before Kafka counts as unavailable."""


@asynccontextmanager
async def open_log(
    settings: Settings, topics: Iterable[Topic], *, client_id: str, wait_ms: int = 500
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """Open a consumer of all partitions of some topics, which commits nothing.

    Args:
        wait_ms: milliseconds for which Kafka holds a fetch without records. A later fetch cannot
            overtake it.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka does not respond, or a topic does not exist.
    """
    # Assigned manually: a subscribing consumer would rely on its first metadata, which may lack
    # topics that were just created.
    partitions = await _partitions_of(settings, topic_names(settings, topics))
    async with open_partitions(
        settings, partitions, client_id=client_id, wait_ms=wait_ms
    ) as consumer:
        yield consumer, partitions


async def _partitions_of(settings: Settings, names: list[str]) -> list[TopicPartition]:
    """Return all partitions of topics, and wait for topics that were just created."""
    deadline = time.monotonic() + PATIENCE
    async with admin_client(settings) as admin:
        while True:
            async with kafka_answers("describing topics"):
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
                    f"Kafka has no topics {', '.join(missing)}; create them with "
                    "`waybill topics apply`"
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
    """Open a consumer of partitions that are known to exist; see `open_log`.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka does not respond.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options(settings),
        client_id=client_id,
        enable_auto_commit=False,
        fetch_max_wait_ms=wait_ms,
    )
    try:
        async with kafka_answers("connecting a consumer"):
            await consumer.start()
        consumer.assign(partitions)
        # aiokafka cannot stop a consumer whose own task has not started yet.
        await asyncio.sleep(0)
        yield consumer
    finally:
        await close_consumer(consumer)


async def beginning_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the first retained offset of each partition; raises like `seek_to`."""
    async with kafka_answers("reading the first offsets"):
        found: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    return found


async def end_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the offset after the last record of each partition; raises like `seek_to`."""
    async with kafka_answers("reading the end offsets"):
        found: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    return found


async def offsets_at(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], milliseconds: int
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """Return the offset of the first record at or after a Unix time, for each partition.

    Raises like `seek_to`.
    """
    async with kafka_answers("reading the offsets of a time"):
        found: dict[TopicPartition, OffsetAndTimestamp | None] = await consumer.offsets_for_times(
            dict.fromkeys(partitions, milliseconds)
        )
    return found


async def newest_time(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> datetime | None:
    """Return the timestamp of the newest record of these partitions; None if they have none.

    This changes the consumer's position: seek before you read with it. Raises like `seek_to`.

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
    """Return the offset of the next record that the consumer reads; raises like `seek_to`."""
    async with kafka_answers("reading a position"):
        offset: int = await consumer.position(partition)
    return offset


async def seek_to(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], moment: datetime
) -> dict[TopicPartition, int]:
    """Seek to the first records at or after a time; return the end offsets of the partitions.

    Raises:
        KafkaError: Kafka rejects the request.
        KafkaUnavailableError: Kafka does not respond.
    """
    milliseconds = int(moment.timestamp() * 1000)
    begins = await offsets_at(consumer, partitions, milliseconds)
    ends = await end_offsets(consumer, partitions)
    for partition in partitions:
        # None means that there is no record since then.
        first = begins.get(partition)
        consumer.seek(partition, first.offset if first else ends[partition])
    return ends


async def read_range(
    consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    """Yield the records from offset `begin` up to, but not including, `end`, in order.

    Only one fetch at a time is held in memory.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka has stopped responding.
    """
    consumer.seek(partition, begin)
    clock = asyncio.get_running_loop().time
    last_came = clock()
    while await position(consumer, partition) < end:
        batches = await consumer.getmany(partition, timeout_ms=POLL_TIMEOUT_MS)
        if batches:
            last_came = clock()
        elif clock() - last_came > PATIENCE:
            raise KafkaUnavailableError(f"Kafka sent no record of {partition} for {PATIENCE:g} s")
        for record in batches.get(partition, ()):
            if record.offset < end:
                yield record

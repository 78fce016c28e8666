"""Reading topics without a consumer group: every partition, from any offset, nothing committed."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.messaging import admin_client, topic_names
from shared.settings import Settings
from shared.topics import Topic


@asynccontextmanager
async def open_log(
    settings: Settings, topics: Iterable[Topic], *, client_id: str
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of all partitions of some topics, which commits nothing.

    Raises:
        KafkaError: Kafka does not answer.
    """
    # Assigned by hand: a consumer that subscribes would take what its first metadata knows, and
    # that lacks topics which were created a moment ago.
    async with admin_client(settings) as admin:
        described = await admin.describe_topics(topic_names(settings, topics))
    partitions = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    ]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.split(","), client_id=client_id, enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        # aiokafka cannot stop a consumer whose own task has not had its first turn.
        await asyncio.sleep(0)
        yield consumer, partitions
    finally:
        await consumer.stop()

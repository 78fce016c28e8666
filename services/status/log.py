"""Reading the event topics without a consumer group: every partition, from any offset."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.messaging import topic_names
from shared.settings import Settings
from shared.topics import EVENT_TOPICS


@asynccontextmanager
async def open_event_log(
    settings: Settings, *, client_id: str
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of all partitions of the event topics, which commits nothing.

    Raises:
        KafkaError: Kafka does not answer.
    """
    consumer = AIOKafkaConsumer(
        *topic_names(settings, EVENT_TOPICS),
        bootstrap_servers=settings.kafka.split(","),
        client_id=client_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        yield consumer, sorted(consumer.assignment())
    finally:
        await consumer.stop()

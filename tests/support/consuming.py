"""Reading the content of topics."""

import asyncio

from aiokafka import AIOKafkaConsumer

from shared.events.events import AnyEvent
from shared.events.topics import Topic
from shared.kafka.log import open_log
from shared.kafka.messaging import read_record
from shared.settings import Settings


async def consume(
    settings: Settings, topic: Topic, count: int, *, seconds: float = 20
) -> list[AnyEvent]:
    """Return the first `count` events of a topic.

    Raises:
        TimeoutError: the topic has fewer after `seconds`.
    """
    consumer = AIOKafkaConsumer(
        settings.topic_prefix + topic.name,
        bootstrap_servers=settings.kafka,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    events: list[AnyEvent] = []
    try:
        async with asyncio.timeout(seconds):
            async for record in consumer:
                logged = read_record(record)
                if logged is not None:
                    events.append(logged.event)
                if len(events) == count:
                    break
    finally:
        await consumer.stop()
    return events


async def consume_distinct(settings: Settings, topic: Topic, number: int) -> list[AnyEvent]:
    """Wait for `number` distinct events in a topic from which nothing was removed; return all.

    An event that a producer sent again, because Kafka's response was lost, counts once. Repeated
    work has another time and counts twice.

    Raises:
        TimeoutError: the topic has fewer after 60 seconds.
    """
    distinct: list[AnyEvent] = []
    async with asyncio.timeout(60):
        while len(distinct) < number:
            records = max(number, await count(settings, topic))
            distinct = []
            for event in await consume(settings, topic, records, seconds=60):
                if event not in distinct:
                    distinct.append(event)
    return distinct


async def count(settings: Settings, topic: Topic) -> int:
    """Return the number of records in a topic from which nothing was removed."""
    async with open_log(settings, (topic,), client_id="tests") as (consumer, partitions):
        ends = await consumer.end_offsets(partitions)
    return sum(ends.values())


async def values(settings: Settings, topic: Topic, records: int) -> dict[str, list[bytes | None]]:
    """Return the values of the first `records` of a topic by key; None is a tombstone.

    Raises:
        TimeoutError: the topic has fewer after 20 seconds.
    """
    found: dict[str, list[bytes | None]] = {}
    async with open_log(settings, (topic,), client_id="tests") as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(20):
            for _ in range(records):
                record = await consumer.getone()
                found.setdefault(record.key.decode(), []).append(record.value)
    return found

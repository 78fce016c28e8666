"""Reading a log returns all records and leaves no consumer open."""

import asyncio
import gc
import warnings

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared.errors import KafkaUnavailableError
from shared.events.topics import EVENT_TOPICS
from shared.kafka import log
from shared.kafka.log import open_log, open_partitions
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from waybill.local.ports import HOST, free_port


async def test_a_consumer_that_could_not_start_is_closed() -> None:
    away = Settings(kafka=f"{HOST}:{free_port()}")
    some = [TopicPartition("topic", 0)]
    # aiokafka warns about unclosed consumers when they are garbage-collected.
    with warnings.catch_warnings(record=True, category=ResourceWarning) as warned:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(KafkaConnectionError):
            async with open_partitions(away, some, client_id="test", wait_ms=1):
                pass
        gc.collect()
    assert [str(each.message) for each in warned if "Kafka" in str(each.message)] == []


async def test_topics_that_are_not_known_yet_are_waited_for(settings: Settings) -> None:
    async def create_later() -> None:
        await asyncio.sleep(0.2)
        await create_topics(settings)

    creating = asyncio.create_task(create_later())
    async with open_log(settings, EVENT_TOPICS, client_id="test") as (_, partitions):
        assert len(partitions) == sum(topic.partitions for topic in EVENT_TOPICS)
    await creating


async def test_topics_that_nobody_creates_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PATIENCE", 0.1)
    with pytest.raises(KafkaUnavailableError, match=r"file\.uploaded.*waybill topics apply"):
        async with open_log(settings, EVENT_TOPICS, client_id="test"):
            pass

"""Events are published to a real Kafka."""

import asyncio
import time

import pytest

from shared.errors import KafkaUnavailableError
from shared.events.events import new_file_id
from shared.kafka import publishing
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import BURST, Publisher
from shared.settings import Settings
from tests.support.builders import about, uploaded

FLUSH_AFTER = 2.0


async def test_an_event_in_a_crowd_waits_for_more_and_a_lone_one_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "BURST_SECONDS", 60.0)
    await create_topics(settings)
    async with Publisher(settings, client_id="test", burst_linger=FLUSH_AFTER) as publisher:
        await asyncio.sleep(
            FLUSH_AFTER - time.monotonic() % FLUSH_AFTER
        )  # Wait for the start of a linger interval.
        for _ in range(BURST):
            await publisher.publish(about(new_file_id(), uploaded()))
        one_more = asyncio.create_task(publisher.publish(about(new_file_id(), uploaded())))
        await asyncio.sleep(0.2)
        assert not one_more.done()
        await one_more


async def test_a_producer_that_has_ended_is_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("something that nobody foresaw")

    await create_topics(settings)
    async with Publisher(settings, client_id="test") as publisher:
        ended = publisher._producer
        assert ended is not None
        monkeypatch.setattr(ended._message_accumulator, "drain_by_nodes", fail)
        with pytest.raises(KafkaUnavailableError):
            await publisher.publish(about(new_file_id(), uploaded()))
        crowd = [about(new_file_id(), uploaded()) for _ in range(20)]
        await asyncio.gather(*map(publisher.publish, crowd))
        assert publisher._producer is not ended


async def test_a_publisher_that_was_stopped_refuses_events(settings: Settings) -> None:
    await create_topics(settings)
    publisher = Publisher(settings, client_id="test")
    await publisher.start()
    await publisher.stop()
    event = about(new_file_id(), uploaded())
    for publish in (publisher.publish, publisher.post):
        with pytest.raises(KafkaUnavailableError):
            await publish(event)
    assert publisher._producer is None

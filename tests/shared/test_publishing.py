"""Events are published by way of a real Kafka."""

import asyncio
import time

import pytest

from shared import messaging
from shared.events import new_file_id
from shared.messaging import CROWD, DirectPublisher, create_topics
from shared.settings import Settings
from tests.support.builders import about, uploaded

LINGER = 2.0


async def test_an_event_in_a_crowd_waits_for_more_and_a_lone_one_does_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messaging, "CROWD_SECONDS", 60.0)
    await create_topics(settings)
    publisher = DirectPublisher(settings, client_id="test", crowd_linger=LINGER)
    await publisher.start()
    try:
        await asyncio.sleep(LINGER - time.monotonic() % LINGER)  # A linger begins now.
        for _ in range(CROWD):
            await publisher.publish(about(new_file_id(), uploaded()))
        one_more = asyncio.create_task(publisher.publish(about(new_file_id(), uploaded())))
        await asyncio.sleep(0.2)
        assert not one_more.done()
        await one_more
    finally:
        await publisher.stop()

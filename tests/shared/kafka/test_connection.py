"""Fixes for aiokafka: broken connections, and memory that is not freed."""

import asyncio
import gc
import weakref

import pytest
import uvloop
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from shared.events.events import new_file_id
from shared.events.topics import UPLOADED
from shared.kafka.connection import admin_client
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.builders import about, uploaded


async def send_over_a_closed_connection(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        await admin.list_topics()
        connections = tuple(admin._client._conns.values())
        assert connections
        for connection in connections:
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # It is closed, and aiokafka has not noticed yet.
            with pytest.raises(KafkaConnectionError, match="is closed"):
                connection.send(MetadataRequest([]))
        await admin.list_topics()


async def test_a_connection_that_uvloop_has_closed_is_made_anew(settings: Settings) -> None:
    await asyncio.to_thread(uvloop.run, send_over_a_closed_connection(settings))


async def test_what_was_fetched_of_a_paused_partition_is_freed(
    settings: Settings, publisher: Publisher
) -> None:
    gc.disable()
    try:
        async with open_log(settings, (UPLOADED,), client_id="test") as (consumer, partitions):
            await publisher.publish(about(new_file_id(), uploaded()))
            await consumer.seek_to_beginning(*partitions)
            fetched = consumer._fetcher._records
            async with asyncio.timeout(20):
                while not fetched:
                    await asyncio.sleep(0.01)
            (result,) = fetched.values()
            records = weakref.ref(result._partition_records)
            del result
            consumer.pause(*partitions)
            assert await consumer.getmany(timeout_ms=0) == {}
            assert records() is None
    finally:
        gc.enable()

"""What aiokafka makes of connections that break."""

import asyncio

import pytest
import uvloop
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from shared.connection import admin_client
from shared.settings import Settings


async def send_over_a_closed_connection(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        await admin.list_topics()
        connections = tuple(admin._client._conns.values())
        assert connections
        for connection in connections:
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # Now it is closed, and aiokafka has not yet seen it.
            with pytest.raises(KafkaConnectionError, match="is closed"):
                connection.send(MetadataRequest([]))
        await admin.list_topics()


async def test_a_connection_that_uvloop_has_closed_is_made_anew(settings: Settings) -> None:
    await asyncio.to_thread(uvloop.run, send_over_a_closed_connection(settings))

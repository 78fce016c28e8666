"""A status service on a real Kafka and a real MongoDB."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.status.app import create_app
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.serving import served, until_ready


@pytest.fixture
def status_settings(settings: Settings) -> StatusSettings:
    return StatusSettings(**settings.model_dump(), heartbeat=0.5)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[FileStore]:
    store = FileStore(settings)
    await store.prepare()
    yield store
    store.close()


@pytest.fixture
async def client(
    status_settings: StatusSettings,
    publisher: Publisher,  # noqa: ARG001 - it creates the topics
) -> AsyncIterator[httpx.AsyncClient]:
    async with served(create_app(status_settings)) as client:
        await until_ready(client)
        yield client

"""What tests share: a real Kafka and a real MongoDB, started once, and a whole stack, once."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.kafka.connection import admin_client
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.kafka_line import KafkaLine, line_to
from tests.support.s3 import ENVIRONMENT, StoreLine, line_to_s3, running_s3
from tests.support.stack import RunningStack, backing_parts
from waybill.local.parts import Parts


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A Kafka and a MongoDB of these tests' own, or the ones that the environment names."""
    with backing_parts(tmp_path_factory.mktemp("parts")) as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A whole Waybill, as `waybill up` starts it."""
    running = RunningStack.start(tmp_path_factory.mktemp("stack"))
    yield running
    running.stop()


@pytest.fixture
async def settings(parts: Parts, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of an installation that shares the running parts with nobody."""
    name = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(
        kafka=parts.kafka,
        mongodb=parts.mongodb,
        database=name,
        topic_prefix=f"{name}.",
        blobs=str(tmp_path / "blobs"),
        blobs_fsync=False,
        demo=True,
    )
    yield settings
    # A broker with the topics of all tests at once would need gigabytes.
    async with admin_client(settings) as admin:
        topics = [topic for topic in await admin.list_topics() if topic.startswith(f"{name}.")]
        await admin.delete_topics(topics)


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """Publishes events to the installation's topics, which are there."""
    await create_topics(settings)
    async with Publisher(settings, client_id="tests") as publisher:
        yield publisher


@pytest.fixture
async def kafka_line(settings: Settings) -> AsyncIterator[KafkaLine]:
    """A line to the Kafka of these settings that a test can cut."""
    async with line_to(settings.kafka) as line:
        yield line


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """An S3-compatible object store."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
async def store_line(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoreLine]:
    """A line to it that a test can disturb."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    async with line_to_s3(s3_endpoint) as line:
        yield line

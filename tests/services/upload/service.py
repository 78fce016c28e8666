"""Run an upload service with a real socket and a real Kafka, and inspect its blobs and events."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.upload.app import create_app
from services.upload.http.large_body_protocol import LargeBodies
from services.upload.settings import UploadSettings
from shared.blobs.packs import PACKS
from shared.blobs.places import SOURCES
from shared.events.events import FileUploaded
from shared.events.reading import parse
from shared.events.topics import UPLOADED
from tests.support.serving import served
from tests.support.stored import contents

UPLOAD = "/api/files/upload"


class UploadedEvents:
    """The events in the upload topic since the test began."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._begin: dict[TopicPartition, int] = {}

    async def mark(self) -> None:
        """Start from the current end of the topic."""
        self._begin = await self._consumer.end_offsets(self._partitions)

    async def all(self) -> list[FileUploaded]:
        """Return the events since the mark."""
        end = await self._consumer.end_offsets(self._partitions)
        expected = sum(end.values()) - sum(self._begin.values())
        for partition, offset in self._begin.items():
            self._consumer.seek(partition, offset)
        events: list[FileUploaded] = []
        async with asyncio.timeout(10):
            while len(events) < expected:
                event = parse((await self._consumer.getone()).value)
                assert isinstance(event, FileUploaded)
                events.append(event)
        return events

    async def one(self) -> FileUploaded:
        """Return the only event since the mark."""
        (event,) = await self.all()
        return event


@asynccontextmanager
async def uploaded_events(settings: UploadSettings) -> AsyncIterator[UploadedEvents]:
    topic = settings.topic_prefix + UPLOADED.name
    partitions = [TopicPartition(topic, number) for number in range(UPLOADED.partitions)]
    # Short fetches, because a request for the end offset waits behind them.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, enable_auto_commit=False, fetch_max_wait_ms=10
    )
    await consumer.start()
    consumer.assign(partitions)
    try:
        yield UploadedEvents(consumer, partitions)
    finally:
        await consumer.stop()


@dataclass
class Service:
    """A running service."""

    client: httpx.AsyncClient
    settings: UploadSettings

    @property
    def port(self) -> int:
        port = self.client.base_url.port
        assert port is not None
        return port

    async def post(self, **request: Any) -> httpx.Response:
        return await self.client.post(UPLOAD, **request)

    async def send(self, *files: Any, **fields: str) -> httpx.Response:
        """Send a form; each file is a tuple for httpx: (name, content[, type])."""
        return await self.post(files=[("file", file) for file in files], data=fields)

    def blobs(self) -> list[Path]:
        """Return all paths in the blob store; users' files by id, wherever they are stored."""
        root = Path(self.settings.blobs)
        rest = (path for path in root.rglob("*") if path.is_file())
        mine = (path for path in rest if path.parent.name not in ("sources", "packs"))
        return sorted([*mine, *map(Path, contents(root))])

    def files(self) -> dict[str, bytes]:
        """Return the content of users' files by id."""
        return contents(self.settings.blobs)

    def blob(self, file_id: str) -> bytes:
        return self.files()[file_id]

    def clear_blobs(self) -> None:
        for path in Path(self.settings.blobs).iterdir():
            shutil.rmtree(path)

    @contextmanager
    def broken_blob_store(self) -> Iterator[None]:
        """Break the blob store by putting files in place of its folders."""
        in_the_way = [Path(self.settings.blobs, folder) for folder in (SOURCES, PACKS)]
        for folder in in_the_way:
            shutil.rmtree(folder, ignore_errors=True)
            folder.write_text("no folder")
        yield
        for folder in in_the_way:
            folder.unlink()


async def until_connected(client: httpx.AsyncClient) -> None:
    """Wait until readiness has no note: Kafka answers, and the outbox is empty."""
    async with asyncio.timeout(30):
        while (await client.get("/health/ready")).json() != {"status": "ok"}:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(settings: UploadSettings, **changes: Any) -> AsyncIterator[Service]:
    """Run a service with these settings, connected to Kafka."""
    settings = settings.model_copy(update=changes)
    async with served(create_app(settings), http=LargeBodies) as client:
        await until_connected(client)
        yield Service(client, settings)

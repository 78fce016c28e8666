"""Run a pod in the test's event loop, and create files for it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock, patch

from aiokafka.partitioner import murmur2

from services.processor.app import Processor
from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.blobs.places import source_key
from shared.events.events import AnyEvent, FileUploaded, UploadedData, new_file_id
from shared.events.topics import UPLOADED
from shared.kafka.publishing import Publisher
from shared.settings import DEMO_TYPE


@asynccontextmanager
async def processing_pod(settings: ProcessorSettings, **changes: Any) -> AsyncIterator[Processor]:
    """Run a pod during the block, and drain it at the end."""
    pod = Processor(settings.model_copy(update=changes))
    ended = Mock()
    with patch("shared.background.supervision.end_pod", ended):
        async with pod.working():
            async with asyncio.timeout(30):
                while not pod.consumer.ready:
                    await asyncio.sleep(0.05)
            yield pod
            ended.assert_not_called()


async def die(pod: Processor) -> None:
    """Simulate the death of a pod: nothing more is finished, released or committed."""
    consumer = pod.consumer
    for task in [each.task for each in consumer._in_flight._entries.values() if each.task]:
        task.cancel()
    consumer._in_flight._entries.clear()
    consumer._windows.clear()


async def upload_content(
    publisher: Publisher, blobs: BlobStore, content: bytes, content_type: str
) -> str:
    """Store and record a file of any type without a known hash; return its id."""
    file_id = new_file_id()
    blob = await blobs.put(source_key(file_id), content)
    data = UploadedData(
        blob=blob, content_type=content_type, size=len(content), sha256=None, name="a"
    )
    await publisher.publish(FileUploaded.of(file_id, data, source="/upload"))
    return file_id


async def upload(
    publisher: Publisher,
    blobs: BlobStore,
    *,
    file_id: str | None = None,
    owner: str | None = None,
    **spec: Any,
) -> str:
    """Store and record a demo file; return its id."""
    file_id = file_id or new_file_id()
    body = json.dumps(spec).encode()
    await blobs.put(source_key(file_id), body)
    data = UploadedData(
        blob=source_key(file_id),
        content_type=DEMO_TYPE,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        name="demo.json",
        owner=owner,
    )
    await publisher.publish(FileUploaded.of(file_id, data, source="/upload"))
    return file_id


def types_of(events: list[AnyEvent], file_id: str) -> list[str]:
    return [event.type.removeprefix("file.") for event in events if event.file_id == file_id]


def same_partition_ids(count: int) -> list[str]:
    """Return ids whose events Kafka's default partitioner sends to one partition."""
    ids: list[str] = []
    while len(ids) < count:
        candidate = new_file_id()
        if (murmur2(candidate.encode()) & 0x7FFFFFFF) % UPLOADED.partitions == 0:
            ids.append(candidate)
    return ids

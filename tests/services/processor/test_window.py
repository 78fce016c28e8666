"""The records in flight in a pod are limited in number and bytes, however many are queued."""

import asyncio
import json

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from services.processor.app import Processor
from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.events.events import FileUploaded, UploadedData
from shared.events.topics import LIFECYCLE, UPLOADED
from shared.kafka.publishing import Publisher
from shared.settings import DEMO_TYPE
from tests.services.processor.pods import processing_pod, same_partition_ids, upload
from tests.support.consuming import count

ONE_FETCH = 1 << 20
"""Bytes of one partition that one poll may return: data not yet fetched cannot be counted."""


async def most_in_hand(
    pod: Processor, settings: ProcessorSettings, *, events: int
) -> tuple[int, int]:
    """Return the most records of one partition and the most bytes until this many events exist."""
    records = size = 0
    async with asyncio.timeout(60):
        while await count(settings, LIFECYCLE) < events:
            for window in pod.consumer._windows.values():
                records = max(records, len(window.in_flight))
            size = max(size, pod.consumer._in_flight.bytes_in_flight)
            await asyncio.sleep(0.01)
    return records, size


async def test_the_records_in_a_pods_hands_are_bounded_in_number_and_fetched_once(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dropped: list[TopicPartition] = []
    keep = FetchResult.check_assignment

    def note_dropped(result: FetchResult, partition: TopicPartition) -> bool:
        kept: bool = keep(result, partition)
        if not kept:
            dropped.append(partition)
        return kept

    for file_id in same_partition_ids(120):
        await upload(publisher, blobs, file_id=file_id, seconds=0.02)
    monkeypatch.setattr(FetchResult, "check_assignment", note_dropped)
    async with processing_pod(processor_settings, window=20) as pod:
        records, _ = await most_in_hand(pod, processor_settings, events=240)
    assert 10 <= records <= 20
    assert dropped == []


@pytest.mark.usefixtures("publisher")
async def test_the_records_in_a_pods_hands_are_bounded_in_bytes(
    processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    """Records as large as a newer version might write them, with an unknown field."""
    await blobs.put("work", b'{"seconds": 0.1}')
    await publish_large(processor_settings, same_partition_ids(40), blob="work", size=400_000)
    limit = 2 << 20
    async with processing_pod(processor_settings, window_bytes=limit) as pod:
        _, size = await most_in_hand(pod, processor_settings, events=40)
    assert limit // 2 <= size <= limit + ONE_FETCH


async def publish_large(
    settings: ProcessorSettings, ids: list[str], *, blob: str, size: int
) -> None:
    """Publish uploads of this many bytes each, all referring to one file."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for file_id in ids:
            data = UploadedData(
                blob=blob, content_type=DEMO_TYPE, size=1, sha256="0" * 64, name="demo.json"
            )
            event = FileUploaded.of(file_id, data, source="/upload").model_dump(mode="json")
            event["data"]["unknown"] = "x" * size
            topic = settings.topic_prefix + UPLOADED.name
            await producer.send_and_wait(topic, json.dumps(event).encode(), key=file_id.encode())

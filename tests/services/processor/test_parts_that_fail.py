"""Kafka, the blob store or the disk fails during work; nothing is lost, the reason is logged."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.places import source_key
from shared.events.events import FileFailed, FileRetrying
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.support.consuming import consume, consume_distinct, count
from tests.support.kafka_line import KafkaLine
from tests.support.s3 import Mood, StoreLine, on_s3
from tests.support.small_disk import SmallDisk, small_disk

KAFKA_AWAY = 15.0
"""Seconds: more than twice the session timeout after which partitions are reassigned."""

ANSWERS_LOST = 1.0
"""Seconds before that in which requests reach Kafka but responses do not reach the pod."""

MAX_GROWTH = 32 << 20
"""Bytes by which the pod may grow during an outage."""

SMALL_DISK = 32 << 10
"""Bytes."""


@pytest.fixture
def s3_settings(processor_settings: ProcessorSettings, store_line: StoreLine) -> ProcessorSettings:
    """Settings of a pod that reaches its blob store through the faulty connection."""
    return on_s3(processor_settings, store_line)


@pytest.fixture
def s3_blobs(s3_settings: ProcessorSettings, s3_endpoint: str) -> BlobStore:
    """The same store without the faulty connection."""
    return open_blob_store(s3_settings.model_copy(update={"blobs_endpoint": s3_endpoint}))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk smaller than one file."""
    with small_disk(tmp_path / "disk", SMALL_DISK) as disk:
        yield disk


def memory() -> int:
    """Return the memory of this process, which contains the pod, in bytes."""
    size: int = psutil.Process().memory_info().rss
    return size


async def test_kafka_that_is_down_in_mid_work_costs_time_and_nothing_else(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    kafka_line: KafkaLine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "services.processor")
    files = [await upload(publisher, blobs, seconds=1, steps=20) for _ in range(12)]
    async with processing_pod(processor_settings, kafka=kafka_line.address):
        await consume(processor_settings, LIFECYCLE, 5)
        # Kafka accepts commits and events, but the responses are lost.
        kafka_line.silence()
        await asyncio.sleep(ANSWERS_LOST)
        await kafka_line.cut()
        before = memory()
        await asyncio.sleep(KAFKA_AWAY)
        assert memory() - before < MAX_GROWTH
        assert await count(processor_settings, LIFECYCLE) < 2 * len(files)
        await kafka_line.open()
        events = await consume_distinct(processor_settings, LIFECYCLE, 2 * len(files))
    for file_id in files:
        assert types_of(events, file_id) == ["processing", "completed"]
    assert "commit postponed" in caplog.text or "cannot commit" in caplog.text


async def test_a_blob_store_that_refuses_is_waited_for_and_no_attempt_is_spent_on_it(
    publisher: Publisher,
    s3_settings: ProcessorSettings,
    s3_blobs: BlobStore,
    store_line: StoreLine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = [await upload(publisher, s3_blobs, seconds=0.3) for _ in range(6)]
    async with processing_pod(s3_settings):
        await consume(s3_settings, LIFECYCLE, 3)
        store_line.mood = Mood.REFUSING
        await asyncio.sleep(5)
        assert store_line.refused
        store_line.mood = Mood.WELL
        events = await consume(s3_settings, LIFECYCLE, 2 * len(files), seconds=60)
    for file_id in files:
        assert types_of(events, file_id) == ["processing", "completed"]
    assert "the blob store failed" in caplog.text
    assert "for the blob store" in caplog.text


async def test_a_file_that_is_not_what_its_hash_tells_of_is_not_worked_on(
    publisher: Publisher, s3_settings: ProcessorSettings, s3_blobs: BlobStore
) -> None:
    file_id = await upload(publisher, s3_blobs)
    await s3_blobs.put(source_key(file_id), b"something else")
    async with processing_pod(s3_settings):
        (failed,) = await consume(s3_settings, LIFECYCLE, 1)
    assert isinstance(failed, FileFailed)
    assert (failed.data.error.code, failed.data.error.retryable) == ("content_changed", False)


async def test_a_slow_blob_store_costs_time_and_no_memory(
    publisher: Publisher,
    s3_settings: ProcessorSettings,
    s3_blobs: BlobStore,
    store_line: StoreLine,
) -> None:
    large = await upload(publisher, s3_blobs, padding="x" * (48 << 20))
    small = await upload(publisher, s3_blobs)
    store_line.mood = Mood.SLOW
    async with processing_pod(s3_settings):
        before = memory()
        events = await consume(s3_settings, LIFECYCLE, 2)
        # The small file completes while the large one is still being fetched.
        assert types_of(events, small) == ["processing", "completed"]
        await asyncio.sleep(2)
        assert memory() - before < MAX_GROWTH
        store_line.mood = Mood.WELL
        events = await consume(s3_settings, LIFECYCLE, 4)
    # A demo file of invalid size; the pod notices only after fetching it.
    assert types_of(events, large) == ["processing", "failed"]


async def test_a_full_disk_costs_attempts_and_the_file_is_worked_on_once_there_is_room(
    publisher: Publisher,
    s3_settings: ProcessorSettings,
    s3_blobs: BlobStore,
    disk: SmallDisk,
) -> None:
    file_id = await upload(publisher, s3_blobs, padding="x" * SMALL_DISK)
    async with processing_pod(s3_settings, scratch=str(disk.path), max_attempts=9):
        events = await consume(s3_settings, LIFECYCLE, 1)
        assert types_of(events, file_id) == ["retrying"]
        disk.enlarge(1 << 20)
        while types_of(events, file_id)[-1] in ("retrying", "processing"):
            events = await consume(s3_settings, LIFECYCLE, len(events) + 1)
    reasons = {event.data.error.code for event in events if isinstance(event, FileRetrying)}
    assert reasons == {"disk_full"}
    # An invalid demo file; the pod notices only after fetching it.
    assert types_of(events, file_id)[-2:] == ["processing", "failed"]

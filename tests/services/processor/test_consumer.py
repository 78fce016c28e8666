"""The processor on a real Kafka: at-least-once delivery, concurrency, and orderly handover."""

import asyncio
from base64 import b64decode
from collections import Counter

import pytest

from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.blobs.places import source_key
from shared.events.events import (
    EventType,
    FileCompleted,
    FileDead,
    FileFailed,
    FileRetryScheduled,
    new_file_id,
)
from shared.events.topics import DEAD, LIFECYCLE, RETRY_TIERS, UPLOADED
from shared.kafka.deadletters import MAX_PAYLOAD
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import processing_pod, same_partition_ids, types_of, upload
from tests.support.consuming import consume, count


async def test_a_file_is_worked_on_and_its_artifacts_are_stored(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, steps=2, seconds=0.01)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 2)
    assert types_of(events, file_id) == ["processing", "completed"]
    done = events[1]
    assert isinstance(done, FileCompleted)
    result = done.data.result
    assert result.prefix == f"files/{file_id}/1.1"
    artifact = result.artifacts[0]
    assert len(await blobs.get(f"{result.prefix}/{artifact.name}")) == artifact.size


async def test_a_long_file_holds_up_no_other_file_of_its_partition(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    long, *short = same_partition_ids(6)
    await upload(publisher, blobs, file_id=long, seconds=4)
    for file_id in short:
        await upload(publisher, blobs, file_id=file_id)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 12)
    outcomes = [event.file_id for event in events if event.type is EventType.COMPLETED]
    assert outcomes[-1] == long
    assert set(outcomes) == {long, *short}


async def test_a_file_that_fails_for_now_is_tried_again_up_to_its_limit(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    mends = await upload(publisher, blobs, then="retry", until=2)
    never = await upload(publisher, blobs, then="crash")
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 10)
        (letter,) = await consume(processor_settings, DEAD, 1)
    assert types_of(events, mends) == ["processing", "retrying", "processing", "completed"]
    assert types_of(events, never) == ["processing", "retrying"] * 2 + ["processing", "failed"]
    given_up = next(event for event in events if isinstance(event, FileFailed))
    assert given_up.data.error.code == "worker_crashed"
    assert (given_up.data.attempt, given_up.data.max_attempts) == (3, 3)
    # The dead letter of a failed file omits the record, which contains the owner's name.
    assert isinstance(letter, FileDead)
    assert (letter.file_id, letter.data.code, letter.data.payload) == (never, "given_up", "")
    assert (letter.data.error_code, letter.data.run, letter.data.attempt) == (
        "worker_crashed",
        1,
        3,
    )
    assert letter.time <= given_up.time


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"\xff", "unreadable"),
        (b"x" * 1_000_000, "unreadable"),
        (b'{"specversion":"1.0","type":"file.uploaded","dataschema":"urn:v:2"}', "unknown_version"),
    ],
    ids=["no event", "almost as large as Kafka takes", "of another version"],
)
async def test_a_record_that_cannot_be_read_is_kept_and_its_partition_goes_on(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    value: bytes,
    code: str,
) -> None:
    file_id = new_file_id()
    topic = processor_settings.topic_prefix + UPLOADED.name
    await publisher.put_back(topic, file_id, value)
    await upload(publisher, blobs, file_id=file_id)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 2)
        (letter,) = await consume(processor_settings, DEAD, 1)
    assert types_of(events, file_id) == ["processing", "completed"]
    assert isinstance(letter, FileDead)
    assert (letter.data.offset, letter.data.code, letter.data.size) == (0, code, len(value))
    assert b64decode(letter.data.payload) == value[:MAX_PAYLOAD]


async def test_a_file_whose_blob_is_gone_fails_with_that_reason(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs)
    await blobs.delete(source_key(file_id))
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 1)
    (failed,) = events
    assert isinstance(failed, FileFailed)
    assert failed.data.error.code == "blob_missing"


async def test_a_drained_pod_finishes_what_it_can_and_gives_back_the_rest_uncounted(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    ends_in_time = await upload(publisher, blobs, seconds=1.5)
    too_long = await upload(publisher, blobs, seconds=6)
    async with processing_pod(processor_settings, shutdown_grace=3.0):
        await consume(processor_settings, LIFECYCLE, 2)
    async with processing_pod(processor_settings, pod="pod-b"):
        events = await consume(processor_settings, LIFECYCLE, 5)
    assert types_of(events, ends_in_time) == ["processing", "completed"]
    assert types_of(events, too_long) == ["processing", "processing", "completed"]
    done = events[-1]
    assert isinstance(done, FileCompleted)
    # The released attempt has a number but does not count against the file.
    assert (done.data.attempt, done.data.max_attempts) == (2, 4)


async def test_attempts_that_were_given_back_do_not_lengthen_the_wait_for_any_later_one(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    await upload(publisher, blobs, seconds=60)
    for life in (1, 2):
        async with processing_pod(processor_settings, shutdown_grace=0):
            await consume(processor_settings, LIFECYCLE, life)
    async with processing_pod(processor_settings, time_limit=0.3):
        scheduled = await consume(processor_settings, RETRY_TIERS[0].topic, 2)
    told = [each.data for each in scheduled if isinstance(each, FileRetryScheduled)]
    assert [(each.attempt, each.max_attempts, each.returned) for each in told] == [
        (4, 5, 2),
        (5, 5, 2),
    ]


async def test_two_pods_share_the_files_and_none_is_processed_twice(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    async with (
        processing_pod(processor_settings) as first,
        processing_pod(processor_settings, pod="pod-b") as second,
    ):
        async with asyncio.timeout(30):
            while not (0 < first.consumer.partitions < 60 and 0 < second.consumer.partitions < 60):
                await asyncio.sleep(0.05)
        for _ in range(40):
            await upload(publisher, blobs, seconds=0.05)
        events = await consume(processor_settings, LIFECYCLE, 80)
    begun = [event for event in events if event.type is EventType.PROCESSING]
    assert set(Counter(event.file_id for event in begun).values()) == {1}
    assert {event.data.pod for event in begun} == {"pod-a", "pod-b"}


async def test_no_retry_is_scheduled_during_a_rebalance(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, seconds=0.5, then="retry")
    tier = RETRY_TIERS[0].topic
    async with processing_pod(processor_settings) as pod:
        await consume(processor_settings, LIFECYCLE, 1)
        pod.consumer._settled.clear()
        await asyncio.sleep(1.5)
        assert await count(processor_settings, tier) == 0
        pod.consumer._settled.set()
        events = await consume(processor_settings, LIFECYCLE, 4)
        assert await count(processor_settings, tier) == 1
    assert types_of(events, file_id) == ["processing", "retrying", "processing", "completed"]


async def test_a_pod_that_takes_over_repeats_nothing_that_is_finished(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    long, *short = same_partition_ids(4)
    await upload(publisher, blobs, file_id=long, seconds=5)
    for file_id in short:
        await upload(publisher, blobs, file_id=file_id)
    async with processing_pod(processor_settings, shutdown_grace=0.1):
        await consume(processor_settings, LIFECYCLE, 7)
    async with processing_pod(processor_settings, pod="pod-b"):
        events = await consume(processor_settings, LIFECYCLE, 9)
    for file_id in short:
        assert types_of(events, file_id) == ["processing", "completed"]
    assert types_of(events, long) == ["processing", "processing", "completed"]

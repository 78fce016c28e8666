"""Pods come and go under load. Only released work is repeated, and the test counts it."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.processor import consumer
from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.events.events import AnyEvent, FileCompleted, FileProcessing
from shared.events.topics import LIFECYCLE
from shared.kafka.messaging import SESSION_TIMEOUT_MS
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import processing_pod, upload
from tests.support.consuming import consume, count

FILES = 240


async def test_scaling_from_one_pod_to_four_and_back_repeats_only_what_was_given_back(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    files = [await upload(publisher, blobs, seconds=0.2) for _ in range(FILES)]
    async with processing_pod(processor_settings, shutdown_grace=0.5):
        async with AsyncExitStack() as more:
            await asyncio.gather(
                *(
                    more.enter_async_context(
                        processing_pod(processor_settings, pod=name, shutdown_grace=0.5)
                    )
                    for name in ("pod-b", "pod-c", "pod-d")
                )
            )
            # There must be work for all pods, and some left when they stop.
            told = await count(processor_settings, LIFECYCLE)
            await at_least(processor_settings, told + FILES // 2)
        events = await until_completed(processor_settings, files)
    begun = [event for event in events if isinstance(event, FileProcessing)]
    assert {event.data.pod for event in begun} == {"pod-a", "pod-b", "pod-c", "pod-d"}
    for file_id in files:
        attempts = [event.data for event in begun if event.file_id == file_id]
        numbers = [each.attempt for each in attempts]
        assert numbers == sorted(set(numbers))
        # Each before the last one was released, which does not count against the file.
        assert numbers[-1] - 1 == attempts[-1].max_attempts - processor_settings.max_attempts
    changes, most_begun = 6, 4 * (processor_settings.workers + 1)
    assert len(begun) - FILES <= changes * most_begun


async def test_a_pod_that_the_group_gave_up_goes_on_where_the_others_left_off(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It missed its heartbeats, does not know what others did meanwhile, and regains everything."""
    file_id = await upload(publisher, blobs, seconds=60)
    settings = processor_settings.model_copy(update={"time_limit": 300, "shutdown_grace": 0.0})
    monkeypatch.setattr(consumer, "HEARTBEAT_MS", 60_000)
    async with processing_pod(settings):
        monkeypatch.undo()
        await consume(settings, LIFECYCLE, 1)
        await asyncio.sleep(SESSION_TIMEOUT_MS / 1000 + 1)
        async with processing_pod(settings, pod="pod-b"):
            await consume(settings, LIFECYCLE, 3)
        # Its next commit is rejected, so it notices.
        await upload(publisher, blobs)
        events = await consume(settings, LIFECYCLE, 6)
    begun = [
        (event.data.attempt, event.data.pod)
        for event in events
        if isinstance(event, FileProcessing) and event.file_id == file_id
    ]
    assert begun == [(1, "pod-a"), (2, "pod-b"), (3, "pod-a")]


async def test_a_pod_that_the_group_gave_up_does_not_tell_how_its_attempt_ended(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a pod is frozen, another pod has started the next attempt before the first ends."""
    silence = SESSION_TIMEOUT_MS / 1000
    file_id = await upload(publisher, blobs, seconds=silence + 2)
    settings = processor_settings.model_copy(update={"time_limit": 300, "shutdown_grace": 0.0})
    monkeypatch.setattr(consumer, "HEARTBEAT_MS", 60_000)
    async with processing_pod(settings):
        monkeypatch.undo()
        await consume(settings, LIFECYCLE, 1)
        await asyncio.sleep(silence + 0.5)
        async with processing_pod(settings, pod="pod-b"):
            await consume(settings, LIFECYCLE, 3)
            await asyncio.sleep(3)  # The first attempt has ended and could be published.
            events = await consume(settings, LIFECYCLE, await count(settings, LIFECYCLE))
    told = [(event.type.removeprefix("file."), vars(event.data)["attempt"]) for event in events]
    assert told[:3] == [("processing", 1), ("retrying", 1), ("processing", 2)]
    assert ("completed", 1) not in told
    assert {event.file_id for event in events} == {file_id}


async def at_least(settings: ProcessorSettings, events: int) -> None:
    """Wait until the history has this many events."""
    async with asyncio.timeout(60):
        while await count(settings, LIFECYCLE) < events:
            await asyncio.sleep(0.1)


async def until_completed(settings: ProcessorSettings, files: list[str]) -> list[AnyEvent]:
    """Return the whole history once all these files are completed."""
    async with asyncio.timeout(60):
        while True:
            events = await consume(settings, LIFECYCLE, await count(settings, LIFECYCLE))
            if {each.file_id for each in events if isinstance(each, FileCompleted)} >= {*files}:
                return events
            await asyncio.sleep(0.2)

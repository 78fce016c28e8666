"""Pods come and go under load: what is repeated is what was given back, and the test counts it."""

import asyncio
from contextlib import AsyncExitStack

from services.processor.settings import ProcessorSettings
from shared.blobs import BlobStore
from shared.events import AnyEvent, FileCompleted, FileProcessing
from shared.messaging import Publisher
from shared.topics import LIFECYCLE
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
            # There must be work for all of them, and some when they go.
            told = await count(processor_settings, LIFECYCLE)
            await at_least(processor_settings, told + FILES // 2)
        events = await until_completed(processor_settings, files)
    begun = [event for event in events if isinstance(event, FileProcessing)]
    assert {event.data.pod for event in begun} == {"pod-a", "pod-b", "pod-c", "pod-d"}
    for file_id in files:
        attempts = [event.data for event in begun if event.file_id == file_id]
        numbers = [each.attempt for each in attempts]
        assert numbers == sorted(set(numbers))
        # Each before the last one was given back, which costs the file nothing.
        assert numbers[-1] - 1 == attempts[-1].max_attempts - processor_settings.max_attempts
    changes, most_begun = 6, 4 * (processor_settings.workers + 1)
    assert len(begun) - FILES <= changes * most_begun


async def at_least(settings: ProcessorSettings, events: int) -> None:
    """Wait until the history has so many events."""
    async with asyncio.timeout(60):
        while await count(settings, LIFECYCLE) < events:
            await asyncio.sleep(0.1)


async def until_completed(settings: ProcessorSettings, files: list[str]) -> list[AnyEvent]:
    """The whole history once all these files are completed."""
    async with asyncio.timeout(60):
        while True:
            events = await consume(settings, LIFECYCLE, await count(settings, LIFECYCLE))
            if {each.file_id for each in events if isinstance(each, FileCompleted)} >= {*files}:
                return events
            await asyncio.sleep(0.2)

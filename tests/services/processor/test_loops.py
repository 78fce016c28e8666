"""The processor's background loops, killed by name: back, or the end of the pod."""

import asyncio
from unittest.mock import patch

from services.processor import loops
from services.processor.app import Processor
from services.processor.settings import ProcessorSettings
from shared.blobs import BlobStore
from shared.publishing import Publisher
from shared.topics import LIFECYCLE
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.support.consuming import consume
from tests.support.killing import kill_each


async def test_every_loop_that_is_killed_is_back_and_files_are_worked_on(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    long = await upload(publisher, blobs, seconds=2)
    async with processing_pod(processor_settings) as pod:
        await consume(processor_settings, LIFECYCLE, 1)
        assert set(pod.supervisor.names) == {each.name for each in loops.LOOPS}
        await kill_each(pod.supervisor, loops.LOOPS)
        short = await upload(publisher, blobs)
        events = await consume(processor_settings, LIFECYCLE, 4)
    # What was in hand is neither lost nor done twice.
    assert types_of(events, long) == ["processing", "completed"]
    assert types_of(events, short) == ["processing", "completed"]


async def test_the_pod_ends_when_its_consumer_dies_and_another_one_does_the_work(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    ended = asyncio.Event()
    pod = Processor(processor_settings)
    with patch("shared.supervision.end_pod", ended.set):
        async with asyncio.timeout(40), pod.working():
            while not pod.consumer.ready:
                await asyncio.sleep(0.05)
            pod.supervisor.kill(loops.CONSUMER.name)
            await ended.wait()
    file_id = await upload(publisher, blobs)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 2)
    assert types_of(events, file_id) == ["processing", "completed"]

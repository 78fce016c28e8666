"""Cancel requests take effect within two seconds at any stage."""

import asyncio
from datetime import timedelta

import psutil

from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.events.events import CancelRequestedData, FileCancelled, FileCancelRequested, utc_now
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.support.consuming import consume

PROMISED = timedelta(seconds=2)


def worker_processes() -> set[psutil.Process]:
    """Return the grandchildren of this process, which include the workers of its pod."""
    this = psutil.Process()
    return {*this.children(recursive=True)} - {*this.children()}


def lives(process: psutil.Process) -> bool:
    """Return True if it still runs; the system may reap orphans with a delay."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_pending_waiting_and_running_work_is_cancelled_within_two_seconds(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    waiting = await upload(publisher, blobs, then="retry")
    settings = processor_settings.model_copy(update={"time_limit": 300, "backoff_first": 1000.0})
    others = worker_processes()
    async with processing_pod(settings):
        await consume(settings, LIFECYCLE, 2)
        running = [await upload(publisher, blobs, then="hang") for _ in range(3)]
        await consume(settings, LIFECYCLE, 5)
        pending = await upload(publisher, blobs)
        await asyncio.sleep(0.2)
        hanging = worker_processes() - others
        asked = utc_now()
        # The pending one first: killing a running one would free a slot for it.
        for file_id in (pending, waiting, *running):
            data = CancelRequestedData(run=1, reason="changed my mind")
            await publisher.publish(FileCancelRequested.of(file_id, data, source="/status"))
        events = await consume(settings, LIFECYCLE, 10)
        still_there = [each for each in hanging if lives(each)]
    assert types_of(events, waiting) == ["processing", "retrying", "cancelled"]
    assert [types_of(events, each) for each in running] == [["processing", "cancelled"]] * 3
    assert types_of(events, pending) == ["cancelled"]
    assert len(hanging) >= 3
    assert still_there == [], "the work itself was stopped, and not only its telling"
    granted = [event.time for event in events if isinstance(event, FileCancelled)]
    assert max(granted) - asked < PROMISED

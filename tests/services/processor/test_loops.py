"""Background loops of the processor, killed by name: each restarts or ends the pod."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from services.processor import app as processor_app
from services.processor import loops
from services.processor.app import Processor
from services.processor.settings import ProcessorSettings
from shared.blobs.blobs import BlobStore
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.support.consuming import consume
from tests.support.kafka_line import KafkaLine
from tests.support.killing import failures, kill_each


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
    # Records in flight are neither lost nor processed twice.
    assert types_of(events, long) == ["processing", "completed"]
    assert types_of(events, short) == ["processing", "completed"]


async def test_the_pod_ends_when_its_consumer_dies_and_another_one_does_the_work(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    ended = asyncio.Event()
    pod = Processor(processor_settings)
    with patch("shared.background.supervision.end_pod", ended.set):
        async with asyncio.timeout(40), pod.working():
            while not pod.consumer.ready:
                await asyncio.sleep(0.05)
            pod.supervisor.kill(loops.CONSUMER.name)
            await ended.wait()
    file_id = await upload(publisher, blobs)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 2)
    assert types_of(events, file_id) == ["processing", "completed"]


async def test_a_pod_that_starts_without_kafka_waits_for_it(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    kafka_line: KafkaLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor_app, "START_PATIENCE", 0.1)
    before = failures(loops.PUBLISHER.name)
    await kafka_line.cut()

    async def open_later() -> None:
        while failures(loops.PUBLISHER.name) < before + 2:
            await asyncio.sleep(0.05)
        await kafka_line.open()

    opening = asyncio.create_task(open_later())
    file_id = await upload(publisher, blobs)
    async with processing_pod(processor_settings, kafka=kafka_line.address):
        events = await consume(processor_settings, LIFECYCLE, 2)
    await opening
    assert types_of(events, file_id) == ["processing", "completed"]


def test_the_process_ends_in_order_and_says_why(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "WAYBILL_KAFKA": "127.0.0.1:1",  # No server listens there, which alone does not end a pod.
        "WAYBILL_BLOBS": str(tmp_path / "blobs"),
        "WAYBILL_SHUTDOWN_GRACE": "1",
        "WAYBILL_ISOLATION": "prefer",
        "WAYBILL_CHAOS_KILL_LOOP": f"{loops.CONSUMER.name}:0.5",
    }
    done = subprocess.run(
        [sys.executable, "-m", "services.processor"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "the loop consumer cannot be restarted: the pod ends" in done.stderr
    assert "LoopCancelledError" in done.stderr
    assert done.returncode in (0, -15)

"""Deaths of workers and pods: only files that cause them fail, and they fail soon."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.processor.settings import ProcessorSettings
from services.processor.steps.media_types import XLSX
from shared.blobs.blobs import BlobStore
from shared.events.events import AnyEvent, FileCompleted, FileFailed, FileProcessing, FileRetrying
from shared.events.topics import LIFECYCLE
from shared.kafka.log import open_log
from shared.kafka.messaging import read_record
from shared.kafka.publishing import Publisher
from tests.services.processor.pods import die, processing_pod, types_of, upload, upload_content
from tests.services.processor.steps.documents import boundless_xlsx
from tests.support.consuming import consume, count
from waybill.local.ports import free_port
from waybill.local.process import Child


def end_of(events: list[AnyEvent], file_id: str) -> AnyEvent:
    return next(event for event in reversed(events) if event.file_id == file_id)


@pytest.mark.parametrize(
    ("how", "said"), [("segfault", "SIGSEGV"), ("quit", "exit code 3"), ("xlsx", "SIGABRT")]
)
async def test_a_document_that_crashes_its_reader_fails_after_the_second_time(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    how: str,
    said: str,
) -> None:
    if how == "xlsx":
        file_id = await upload_content(publisher, blobs, boundless_xlsx(), XLSX)
    else:
        file_id = await upload(publisher, blobs, then=how)
    async with processing_pod(processor_settings, max_attempts=5):
        events = await consume(processor_settings, LIFECYCLE, 4)
    assert types_of(events, file_id) == ["processing", "retrying", "processing", "failed"]
    retrying, failed = events[1], events[3]
    assert isinstance(retrying, FileRetrying)
    assert said in retrying.data.error.message
    assert isinstance(failed, FileFailed)
    assert (failed.data.error.code, failed.data.error.retryable) == (
        "document_crashes_reader",
        False,
    )
    assert said in failed.data.error.message


async def test_the_last_attempt_names_the_crash_as_well(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, then="segfault")
    async with processing_pod(processor_settings, max_attempts=1):
        events = await consume(processor_settings, LIFECYCLE, 2)
    failed = end_of(events, file_id)
    assert isinstance(failed, FileFailed)
    assert "SIGSEGV" in failed.data.error.message


async def test_deaths_of_pods_alone_fail_no_file(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    files = [await upload(publisher, blobs, seconds=1) for _ in range(8)]
    for life in range(6):
        told = await count(processor_settings, LIFECYCLE)
        async with processing_pod(processor_settings, pod=f"pod-{life}", shutdown_grace=0) as pod:
            await consume(processor_settings, LIFECYCLE, told + 2)
            await die(pod)
    events: list[AnyEvent] = []
    async with processing_pod(processor_settings, pod="pod-last"):
        while len({each.file_id for each in events if isinstance(each, FileCompleted)}) < 8:
            events = await consume(processor_settings, LIFECYCLE, len(events) + 1)
            assert not [each for each in events if isinstance(each, FileFailed)]
    for file_id in files:
        ended = end_of(events, file_id)
        assert isinstance(ended, FileCompleted)
        # Attempts that do not count are numbered all the same.
        begun = [each for each in events if isinstance(each, FileProcessing)]
        mine = [each.data.attempt for each in begun if each.file_id == file_id]
        assert mine == sorted(set(mine))


async def test_a_pod_that_is_killed_while_it_drains_has_given_back_its_work(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, seconds=60)
    for life in range(4):
        told = await count(processor_settings, LIFECYCLE)
        with suppress(AssertionError):  # It ends by itself.
            async with processing_pod(processor_settings, pod=f"pod-{life}") as pod:
                await consume(processor_settings, LIFECYCLE, told + 1)
                draining = asyncio.create_task(pod.consumer.drain(30))
                await pod.consumer.committer.written(pod.consumer._windows.keys())
                await die(pod)
                await draining
    events = await consume(processor_settings, LIFECYCLE, 4)
    assert types_of(events, file_id) == ["processing"] * 4
    last = events[-1]
    assert isinstance(last, FileProcessing)
    assert (last.data.attempt, last.data.max_attempts) == (4, 6)


class ProcessPods:
    """Pods in separate processes, each life with a new name."""

    def __init__(self, settings: ProcessorSettings, folder: Path) -> None:
        fields = settings.model_dump(exclude_none=True, exclude_defaults=True, mode="json")
        fields |= {"kafka": settings.kafka, "blobs": settings.blobs}
        self._environment = {f"WAYBILL_{name.upper()}": str(each) for name, each in fields.items()}
        self._folder = folder
        self._running: dict[str, Child] = {}
        self.killed = 0

    def start(self, name: str) -> None:
        own = {"WAYBILL_POD": name, "WAYBILL_PORT": str(free_port())}
        self._running[name] = Child(
            name,
            [sys.executable, "-m", "services.processor"],
            environment={**os.environ, **self._environment, **own},
            log=self._folder / f"{name}.log",
        )

    def kill_and_replace(self, name: str) -> None:
        """Kill a pod as the kernel kills a container, and restart it as an orchestrator does."""
        os.kill(self._running.pop(name).pid, signal.SIGKILL)
        self.killed += 1
        self.start(f"{name}+")

    def stop(self) -> None:
        for pod in self._running.values():
            os.kill(pod.pid, signal.SIGKILL)


@pytest.fixture
def process_pods(processor_settings: ProcessorSettings, tmp_path: Path) -> Iterator[ProcessPods]:
    pods = ProcessPods(processor_settings, tmp_path / "pods")
    for name in ("a", "b"):
        pods.start(name)
    yield pods
    pods.stop()


async def test_a_file_that_kills_whole_pods_fails_and_its_neighbours_do_not(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    process_pods: ProcessPods,
) -> None:
    killer = await upload(publisher, blobs, seconds=600)
    files = {await upload(publisher, blobs, seconds=1.5) for _ in range(8)}
    ended: dict[str, AnyEvent] = {}
    seen: set[str] = set()
    async with (
        asyncio.timeout(180),
        open_log(processor_settings, (LIFECYCLE,), client_id="tests") as (consumer, partitions),
    ):
        await consumer.seek_to_beginning(*partitions)
        while len(ended) <= len(files):
            logged = read_record(await consumer.getone())
            assert logged is not None
            event = logged.event
            if isinstance(event, FileCompleted | FileFailed):
                ended[event.file_id] = event
            if isinstance(event, FileProcessing) and event.file_id == killer:
                if event.id not in seen:
                    process_pods.kill_and_replace(event.data.pod)
                seen.add(event.id)
    failed = ended.pop(killer)
    assert isinstance(failed, FileFailed)
    assert failed.data.error.code == "worker_crashed"
    assert process_pods.killed == processor_settings.max_attempts
    assert {type(event) for event in ended.values()} == {FileCompleted}

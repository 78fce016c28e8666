"""On a full disk no text is truncated, no document counts as corrupt, and no file fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.processor import run
from services.processor.channel import Broken, Done, Job, Packed
from services.processor.isolation.limits import Limits
from services.processor.settings import ProcessorSettings
from services.processor.steps.media_types import PDF, PLAIN_TEXT
from services.processor.workers import WorkerPool
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.files import Small
from shared.blobs.packs import PackWriter
from shared.events.events import AnyEvent, FileCompleted, FileFailed, FileRetrying
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from shared.settings import DEMO_TYPE
from tests.services.processor.jobs import ignore
from tests.services.processor.pods import processing_pod, types_of, upload, upload_content
from tests.support.consuming import consume, count
from tests.support.small_disk import SmallDisk, small_disk
from waybill.samples.pdf import write_pdf

ROOM = 64 << 20
"""Bytes of the disk."""

LEFT = 4096
"""Bytes free on a full disk: the size of the texts that were once truncated."""

TEXT = b"0123456789abcde\n" * 1000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", ROOM) as disk:
        yield disk


def fill(disk: SmallDisk) -> None:
    """Leave so little space that a file can be created but not written."""
    disk.fill()
    os.truncate(disk.path / "filler", (disk.path / "filler").stat().st_size - LEFT)


def packed_job(folder: Path, content: bytes, content_type: str) -> Job:
    writer = PackWriter(folder / "blobs")
    blob = Small("sources/one", content, durable=False, anywhere=True)
    assert writer.take([blob]) == []
    writer.close()
    return Job(
        source=Packed(root=str(folder / "blobs"), key=blob.key, sha256=None),
        scratch=str(folder / "scratch"),
        content_type=content_type,
        size=len(content),
        run=1,
        attempt=1,
        ocr=False,
    )


class TestWorker:
    @pytest.fixture
    async def pool(self, disk: SmallDisk) -> AsyncIterator[WorkerPool]:
        pool = WorkerPool(size=1, folder=disk.path, limits=Limits(memory=512 << 20), time_limit=20)
        await pool.start()
        yield pool
        await pool.stop()

    async def test_without_room_for_its_copy_says_so_and_reads_the_whole_text_afterwards(
        self, pool: WorkerPool, disk: SmallDisk, tmp_path: Path
    ) -> None:
        job = packed_job(tmp_path, TEXT, PLAIN_TEXT)
        fill(disk)
        outcome = await pool.run(job, ignore)
        assert isinstance(outcome, Broken), outcome
        assert outcome.error.code == "disk_full"
        disk.clear()
        outcome = await pool.run(job, ignore)
        assert isinstance(outcome, Done), outcome
        assert outcome.statistics["characters"] == len(TEXT)

    async def test_without_room_for_a_librarys_own_file_does_not_call_a_pdf_corrupt(
        self, pool: WorkerPool, disk: SmallDisk, tmp_path: Path
    ) -> None:
        """kreuzberg unpacks an 8 MB library before it reads its first PDF."""
        disk.fill()
        os.truncate(disk.path / "filler", ROOM - (1 << 20))
        job = packed_job(tmp_path, write_pdf(["Some text."], title="Short"), PDF)
        outcome = await pool.run(job, ignore)
        assert isinstance(outcome, Broken), outcome
        assert (outcome.error.code, outcome.error.retryable) == ("disk_full", True)
        disk.clear()
        assert isinstance(await pool.run(job, ignore), Done)

    async def test_without_room_for_its_copy_of_a_pdf_does_not_call_it_corrupt(
        self, pool: WorkerPool, disk: SmallDisk, tmp_path: Path
    ) -> None:
        content = write_pdf(["\n".join(["A line of text."] * 30)] * 12, title="Long")
        assert len(content) > LEFT
        fill(disk)
        outcome = await pool.run(packed_job(tmp_path, content, PDF), ignore)
        assert isinstance(outcome, Broken), outcome
        assert (outcome.error.code, outcome.error.retryable) == ("disk_full", True)


def outcomes(events: list[AnyEvent]) -> list[AnyEvent]:
    return [each for each in events if isinstance(each, FileCompleted | FileFailed)]


async def test_while_the_disk_is_full_a_pod_begins_nothing_and_says_so(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore, disk: SmallDisk
) -> None:
    async with processing_pod(processor_settings, scratch=str(disk.path)) as pod:
        fill(disk)
        async with asyncio.timeout(10):
            while pod.space.unavailable_reason is None:
                await asyncio.sleep(0.02)
        files = [await upload_content(publisher, blobs, TEXT, PLAIN_TEXT) for _ in range(10)]
        pdf = write_pdf(["Some text."], title="Short")
        files += [await upload_content(publisher, blobs, pdf, PDF) for _ in range(5)]
        await asyncio.sleep(1)
        assert await count(processor_settings, LIFECYCLE) == 0
        assert "cannot be used" in pod.space.unavailable_reason
        disk.clear()
        events = await consume(processor_settings, LIFECYCLE, 2 * len(files))
    for file_id in files:
        assert types_of(events, file_id) == ["processing", "completed"]
    told = [each for each in events if isinstance(each, FileCompleted)]
    whole = [each for each in told if each.data.result.statistics["characters"] == len(TEXT)]
    assert len(whole) == 10


async def test_a_pod_that_starts_on_a_full_disk_waits_for_room(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    disk: SmallDisk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file_id = await upload(publisher, blobs)
    disk.fill()
    asyncio.get_running_loop().call_later(2, disk.clear)
    async with processing_pod(processor_settings, scratch=str(disk.path)):
        events = await consume(processor_settings, LIFECYCLE, 2)
    assert "no new work starts" in caplog.text
    assert types_of(events, file_id) == ["processing", "completed"]


async def test_what_was_under_way_when_the_disk_filled_up_waits_and_spends_no_attempt(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore, disk: SmallDisk
) -> None:
    ends_well = await upload(publisher, blobs, seconds=1.5)
    fails = await upload(publisher, blobs, seconds=1.5, then="fail")
    async with processing_pod(processor_settings, scratch=str(disk.path), max_attempts=1):
        await consume(processor_settings, LIFECYCLE, 2)
        fill(disk)
        events = await consume(processor_settings, LIFECYCLE, 4)
        for file_id in (ends_well, fails):
            assert types_of(events, file_id) == ["processing", "retrying"]
        told = [each for each in events if isinstance(each, FileRetrying)]
        assert {each.data.error.code for each in told} == {"disk_full"}
        assert all(each.data.next_attempt_at > each.time for each in told)
        assert {(each.data.attempt, each.data.max_attempts) for each in told} == {(1, 2)}
        disk.clear()
        events = await consume(processor_settings, LIFECYCLE, 8)
    assert types_of(events, ends_well)[2:] == ["processing", "completed"]
    assert types_of(events, fails)[2:] == ["processing", "failed"]


async def test_a_fetched_file_waits_for_room_through_any_number_of_attempts(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
    blobs: BlobStore,
) -> None:
    """The pod treats the store as remote, so that each file is copied to scratch."""
    monkeypatch.setattr(BlobStore, "local_path", lambda *_: None)
    content = b'{"padding": "' + b"x" * ROOM + b'"}'
    file_id = await upload_content(publisher, blobs, content, DEMO_TYPE)
    async with processing_pod(
        processor_settings, scratch=str(disk.path), max_attempts=1, backoff_max=0.2
    ):
        await consume(processor_settings, LIFECYCLE, 4)
        disk.enlarge(2 * ROOM)
        events: list[AnyEvent] = []
        while not outcomes(events):
            events = await consume(processor_settings, LIFECYCLE, len(events) + 1)
    *waits, processing, failed = events
    assert processing.file_id == file_id
    assert {each.type.value for each in waits} == {"file.retrying"}
    codes = {each.data.error.code for each in waits if isinstance(each, FileRetrying)}
    assert codes == {"disk_full"}
    # An invalid demo file; the pod notices only after fetching it.
    assert isinstance(failed, FileFailed)
    assert failed.data.error.code == "bad_demo"


async def test_a_full_blob_store_is_waited_for_through_any_number_of_attempts(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    disk: SmallDisk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "STORE_TIMEOUT", 0.1)
    settings = processor_settings.model_copy(update={"blobs": str(disk.path)})
    file_id = await upload(publisher, open_blob_store(settings), steps=2, seconds=0.01)
    disk.fill()
    async with processing_pod(settings, max_attempts=1, backoff_max=0.2):
        events = await consume(settings, LIFECYCLE, 6)
        assert types_of(events, file_id) == ["processing", "retrying"] * 3
        told = [each for each in events if isinstance(each, FileRetrying)]
        assert {each.data.error.code for each in told} == {"storage_full"}
        disk.clear()
        while not outcomes(events):
            events = await consume(settings, LIFECYCLE, len(events) + 1)
    assert isinstance(outcomes(events)[0], FileCompleted)

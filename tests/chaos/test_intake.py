"""Kafka or the blob store fails during many uploads: accepted files end, rejected ones vanish.

`tests/services/upload/intake/test_killed.py` covers crashes of the upload service at each step, and
`test_crowd.py` beside it covers a thousand clients that disconnect.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.processor.settings import ProcessorSettings
from services.upload import kafka_connection as link
from services.upload.intake import outbox
from services.upload.settings import UploadSettings
from shared.blobs.blobs import BLOCK, PART, open_blob_store
from shared.blobs.places import SOURCES
from shared.events.events import FileCompleted, FileFailed, FileUploaded
from shared.events.topics import LIFECYCLE, UPLOADED
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.services.processor.pods import processing_pod
from tests.services.upload.service import Service, running, until_connected
from tests.support.consuming import consume, count
from tests.support.crowd import Visit, visits
from tests.support.kafka_line import KafkaLine
from tests.support.s3 import Mood, StoreLine, on_s3
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.stored import stored_files
from tests.support.sweeping import sweep_all

TIMEOUT = 1.0
"""Seconds for Kafka to accept an event."""

SIZES = (100, 20_000, BLOCK + 1)
"""Bytes: small files, which are written in batches, and a large one, which is streamed."""

CLIENTS, AT_ONCE = 60, 20

ROOM = 2 << 20
"""Bytes of the disk that fills up: two of the large files do not fit."""


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the checks that follow Kafka's return."""
    monkeypatch.setattr(link, "RETRY_EVERY", 0.1)
    monkeypatch.setattr(link, "LOOK_EVERY", 0.3)
    monkeypatch.setattr(link, "PATIENCE", 1.0)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 0.1)


@pytest.fixture
async def upload_settings(settings: Settings) -> UploadSettings:
    await create_topics(settings)
    return UploadSettings(**settings.model_dump(), publish_timeout=TIMEOUT)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", ROOM) as disk:
        yield disk


@pytest.fixture
def s3_settings(upload_settings: UploadSettings, store_line: StoreLine) -> UploadSettings:
    """The blob store is reached through the faulty connection."""
    return on_s3(upload_settings, store_line)


@asynccontextmanager
async def serving(settings: UploadSettings, **changes: Any) -> AsyncIterator[Service]:
    """Run a service until Kafka has everything that it accepted."""
    async with running(settings, **changes) as service:
        yield service
        await until_connected(service.client)


async def crowd(service: Service, *, seed: int, **changes: Any) -> list[Visit]:
    asked = {"clients": CLIENTS, "at_once": AT_ONCE, "sizes": SIZES, **changes}
    return await visits(service.port, seed=seed, **asked)


def codes(seen: Sequence[Visit]) -> set[str | None]:
    """Return the codes with which the clients that stayed were rejected."""
    return {visit.code for visit in seen if visit.status not in (None, 202)}


async def assert_kept(settings: UploadSettings, seen: Sequence[Visit]) -> None:
    """Check that every file answered with 202 ends and that no rejected upload leaves anything.

    An upload whose client disconnected early may have been accepted; its file then ends as well.
    """
    await sweep_all(settings)
    uploads = await consume(settings, UPLOADED, await count(settings, UPLOADED))
    published = {
        event.data.name: event.file_id for event in uploads if isinstance(event, FileUploaded)
    }
    accepted = {visit.name: visit.answer for visit in seen if visit.status == 202}
    refused = {visit.name for visit in seen if visit.status not in (None, 202)}

    assert {name: answer and answer["file_id"] for name, answer in accepted.items()} == {
        name: published.get(name) for name in accepted
    }
    assert not refused & published.keys()
    assert len(set(published.values())) == len(published)
    blobs = open_blob_store(settings)
    assert sorted(await stored_files(blobs)) == sorted(published.values())
    assert await blobs.keys("staged/") == []
    assert await blobs.keys("outbox/") == []
    assert await ended(settings, len(published)) == Counter(published.values())


async def all_wait(settings: Settings) -> None:
    """Wait until every stored file's event is in the outbox, even if its client disconnected."""
    blobs = open_blob_store(settings)
    async with asyncio.timeout(20):
        while len(await stored_files(blobs)) != len(await blobs.keys("outbox/")):
            await asyncio.sleep(0.05)


async def ended(settings: UploadSettings, files: int) -> Counter[str]:
    """Return how many files ended in each way, once a processor has ended this many."""
    shared = settings.model_dump(include=set(ProcessorSettings.model_fields))
    over: Counter[str] = Counter()
    async with processing_pod(ProcessorSettings(**shared, workers=2, pod="pod")):
        records = 0
        while over.total() < files:
            records += 1
            records = max(records, await count(settings, LIFECYCLE))
            events = await consume(settings, LIFECYCLE, records, seconds=60)
            over = Counter(
                event.file_id for event in events if isinstance(event, FileCompleted | FileFailed)
            )
    return over


class TestKafkaThatIsAwayForWholeUploads:
    @pytest.mark.parametrize("how", ["cut", "silent"])
    async def test_costs_no_file(
        self, upload_settings: UploadSettings, kafka_line: KafkaLine, how: str
    ) -> None:
        async with serving(upload_settings, kafka=kafka_line.address) as service:
            if how == "cut":
                await kafka_line.cut()
            else:
                kafka_line.silence()
            seen = await crowd(service, seed=1)
            assert {visit.status for visit in seen} == {202, None}
            await all_wait(upload_settings)
            await sweep_all(upload_settings)  # It must not remove files waiting in the outbox.
            if how == "silent":
                await kafka_line.cut()
            await kafka_line.open()
        await assert_kept(upload_settings, seen)

    async def test_and_a_disk_without_room_for_the_outbox_refuse_and_leave_nothing(
        self, upload_settings: UploadSettings, kafka_line: KafkaLine, disk: SmallDisk
    ) -> None:
        settings = upload_settings.model_copy(update={"blobs": str(disk.path)})
        async with serving(settings, kafka=kafka_line.address) as service:
            await kafka_line.cut()
            seen = await crowd(service, seed=2, sizes=(100, 20_000))
            disk.fill()
            seen += await crowd(service, seed=3, sizes=(100, 20_000))
            assert codes(seen) == {"storage_full"}
            disk.clear()
            await kafka_line.open()
        await assert_kept(settings, seen)


class TestStoreThatIsFull:
    async def test_is_told_and_accepts_again_once_there_is_room(
        self, upload_settings: UploadSettings, disk: SmallDisk
    ) -> None:
        settings = upload_settings.model_copy(update={"blobs": str(disk.path)})
        async with serving(settings) as service:
            seen = await crowd(service, seed=4)
            (refusal,) = {
                (visit.status, visit.code) for visit in seen if visit.status not in (None, 202)
            }
            assert refusal == (507, "storage_full")
            assert any(visit.status == 202 for visit in seen)
        # The service has stopped, so nothing removes what clients left behind.
        disk.fill()
        async with serving(settings) as service:
            answer = await service.send(("a.txt", b"one"))
            assert answer.status_code == 507
            assert answer.headers["retry-after"] == "60"
            assert "made room" in answer.json()["detail"]
            assert str(disk.path) not in answer.text
            disk.enlarge(64 << 20)
            seen += (again := await crowd(service, seed=5))
            assert {visit.status for visit in again} == {202, None}
        await assert_kept(settings, seen)


class TestStoreElsewhere:
    @pytest.mark.parametrize("mood", [Mood.REFUSING, Mood.LOSING])
    async def test_that_fails_is_told_and_what_it_took_unnoticed_is_swept(
        self, s3_settings: UploadSettings, store_line: StoreLine, mood: Mood
    ) -> None:
        async with serving(s3_settings) as service:
            seen = await crowd(service, seed=6, clients=20)
            store_line.mood = mood
            failing = await crowd(service, seed=7, clients=20, faithful=1)
            assert {(visit.status, visit.code) for visit in failing} == {
                (503, "blob_store_unavailable")
            }
            store_line.mood = Mood.WELL
            seen += failing + (again := await crowd(service, seed=8, clients=20))
            assert {visit.status for visit in again} == {202, None}
        if mood is Mood.LOSING:
            files = await open_blob_store(s3_settings).keys(SOURCES)
            assert len(files) > await count(s3_settings, UPLOADED)
        await assert_kept(s3_settings, seen)

    async def test_that_is_slow_delays_some_and_turns_others_away(
        self, s3_settings: UploadSettings, store_line: StoreLine
    ) -> None:
        async with serving(s3_settings, max_uploads=3) as service:
            store_line.mood = Mood.SLOW
            seen = await crowd(service, seed=9, clients=20, sizes=(100, PART + 1))
            assert codes(seen) == {"overloaded"}
            assert any(visit.status == 202 for visit in seen)
            store_line.mood = Mood.WELL
        await assert_kept(s3_settings, seen)

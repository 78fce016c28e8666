"""A service that is killed at any step of an upload leaves a complete file or nothing."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from services.upload.cleanup import orphans
from services.upload.cleanup.orphans import Orphans
from services.upload.settings import UploadSettings
from shared.blobs.blobs import BLOCK, open_blob_store
from shared.blobs.places import source_key
from shared.events.events import new_file_id
from tests.services.upload.killed import STEPS, WITH_BLOB_WRITER
from tests.services.upload.service import UPLOAD, UploadedEvents, running, until_connected
from tests.services.upload.test_process import until_listening
from tests.support.blob_writers import blob_writers_of
from tests.support.stored import contents
from tests.support.sweeping import a_day_later, sweep_all
from waybill.local.ports import free_port

KEY = {"Idempotency-Key": '"one"'}


class Mortals:
    """Services that are killed one after another."""

    def __init__(self, process: asyncio.subprocess.Process, settings: UploadSettings) -> None:
        self._process = process
        self._settings = settings

    async def upload(self, step: str, content: bytes, *, blob_writer: bool = False) -> None:
        """Kill a service at this step of an upload. The client gets no answer."""
        port = free_port()
        environment = {
            "WAYBILL_KAFKA": self._settings.kafka,
            "WAYBILL_TOPIC_PREFIX": self._settings.topic_prefix,
            "WAYBILL_BLOBS": self._settings.blobs,
            "WAYBILL_PORT": str(port),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"step": step, "blob_writer": blob_writer, "environment": environment})
        self._process.stdin.write(line.encode() + b"\n")
        await until_listening(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            await until_connected(client)
            with pytest.raises(httpx.TransportError):
                await client.post(UPLOAD, content=content, headers=KEY)
        async with asyncio.timeout(10):
            assert await self._process.stdout.readline() == b"dead\n"
            while blob_writer and blob_writers_of(self._settings.blobs):
                await asyncio.sleep(0.02)  # It finishes what it was asked.


@pytest.fixture(scope="module")
async def forking() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.services.upload.killed"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ,
    )
    yield process
    process.kill()
    await process.wait()


@pytest.fixture
def mortals(forking: asyncio.subprocess.Process, settings: UploadSettings) -> Mortals:
    return Mortals(forking, settings)


@pytest.fixture
def later() -> Iterator[None]:
    with a_day_later():
        yield


def beside_files(settings: UploadSettings) -> list[Path]:
    """Return staged files and outbox entries."""
    folders = [Path(settings.blobs, name) for name in ("staged", "outbox")]
    return [path for folder in folders for path in folder.glob("*")]


def waiting_in_outbox(settings: UploadSettings) -> bool:
    return any(path.parent.name == "outbox" for path in beside_files(settings))


@pytest.mark.parametrize("size", [20_000, 3 * BLOCK], ids=["small", "large"])
@pytest.mark.parametrize("step", STEPS)
async def test_when(
    mortals: Mortals, settings: UploadSettings, events: UploadedEvents, step: str, size: int
) -> None:
    content = os.urandom(size)
    await mortals.upload(step, content)
    await assert_file_or_nothing(settings, events, content)


@pytest.mark.parametrize("step", WITH_BLOB_WRITER)
async def test_with_a_scribe_when(
    mortals: Mortals, settings: UploadSettings, events: UploadedEvents, step: str
) -> None:
    content = os.urandom(20_000)
    await mortals.upload(step, content, blob_writer=True)
    await assert_file_or_nothing(settings, events, content)


async def assert_file_or_nothing(
    settings: UploadSettings, events: UploadedEvents, content: bytes
) -> None:
    if waiting_in_outbox(settings):
        async with running(settings), asyncio.timeout(10):
            while waiting_in_outbox(settings):
                await asyncio.sleep(0.05)
    await sweep_all(settings)

    published = {event.file_id: event for event in await events.all()}

    assert len(published) <= 1
    assert contents(settings.blobs) == dict.fromkeys(published, content)
    assert beside_files(settings) == []


async def test_what_the_log_or_the_outbox_knows_is_no_orphan(settings: UploadSettings) -> None:
    async with running(settings) as service:
        known = (await service.send(("a.txt", b"one"))).json()["file_id"]
    blobs = open_blob_store(settings)
    waiting, lost = new_file_id(), new_file_id()
    for file_id in (waiting, lost):
        await blobs.put(source_key(file_id), b"two")
    await blobs.put(f"outbox/{waiting}.json", b"{}")

    with a_day_later():
        assert await Orphans(settings, blobs).sweep() == 1

    assert contents(settings.blobs) == {known: b"one", waiting: b"two"}


@pytest.mark.usefixtures("later")
async def test_what_was_swept_once_is_not_looked_at_again(settings: UploadSettings) -> None:
    blobs = open_blob_store(settings)
    await blobs.put(source_key(new_file_id()), b"one")
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    await blobs.put(orphans.PROGRESS, in_an_hour.isoformat().encode())

    assert await Orphans(settings, blobs).sweep() == 0


@pytest.mark.usefixtures("later")
async def test_a_log_that_knows_hardly_any_file_is_not_believed(
    settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "MAX_DOUBTFUL", 2)
    blobs = open_blob_store(settings)
    for _ in range(3):
        await blobs.put(source_key(new_file_id()), b"one")

    assert await Orphans(settings, blobs).sweep() == 0

    assert len(await blobs.keys("sources")) == 3


@pytest.mark.usefixtures("later")
async def test_files_are_swept_in_passes(
    settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "MAX_FILES", 2)
    blobs = open_blob_store(settings)
    for _ in range(5):
        await blobs.put(source_key(new_file_id()), b"one")

    assert await Orphans(settings, blobs).sweep() == 5


async def test_young_files_are_left_alone(
    settings: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "ORPHAN_AGE", timedelta(hours=1))
    blobs = open_blob_store(settings)
    await blobs.put(source_key(new_file_id()), b"one")

    assert await Orphans(settings, blobs).sweep() == 0

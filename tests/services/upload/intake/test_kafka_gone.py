"""During a Kafka outage, uploads are accepted, wait in the outbox, and are published afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.upload import kafka_connection as link
from services.upload.app import create_app
from services.upload.intake import outbox
from services.upload.settings import UploadSettings
from shared.blobs.blobs import BlobStore
from shared.errors import BlobStoreUnavailableError
from shared.events.events import FileUploaded
from tests.services.upload.service import Service, UploadedEvents, running, until_connected
from tests.support.kafka_line import KafkaLine, line_to
from tests.support.serving import served

TIMEOUT = 1.0
"""Seconds that Kafka has to acknowledge an event in these tests."""


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RETRY_INTERVAL", 0.1)
    monkeypatch.setattr(link, "CHECK_INTERVAL", 0.3)
    monkeypatch.setattr(link, "UNAVAILABLE_AFTER", 1.0)
    monkeypatch.setattr(outbox, "POLL_INTERVAL", 0.1)


@pytest.fixture
async def line(settings: UploadSettings) -> AsyncIterator[KafkaLine]:
    async with line_to(settings.kafka) as line:
        yield line


@pytest.fixture
async def service(settings: UploadSettings, line: KafkaLine) -> AsyncIterator[Service]:
    """A service that is connected to Kafka through the proxy."""
    async with running(settings, kafka=line.address, publish_timeout=TIMEOUT) as service:
        assert (await service.send(("before.txt", b"one"))).status_code == 202
        service.clear_blobs()
        yield service


@pytest.fixture
async def early(settings: UploadSettings, line: KafkaLine) -> AsyncIterator[Service]:
    """A service that started before Kafka."""
    await line.cut()
    settings = settings.model_copy(update={"kafka": line.address, "publish_timeout": TIMEOUT})
    async with served(create_app(settings)) as client:
        yield Service(client, settings)


async def noted(service: Service) -> str:
    """Return the note in `/health/ready` of a service that is ready."""
    async with asyncio.timeout(10):
        while True:
            answer = await service.client.get("/health/ready")
            assert answer.status_code == 200
            if note := answer.json().get("note"):
                return str(note)
            await asyncio.sleep(0.05)


async def arrived(events: UploadedEvents, count: int) -> dict[str, FileUploaded]:
    """Wait for the events of `count` files and return them by id."""
    async with asyncio.timeout(20):
        while len(found := {event.file_id: event for event in await events.all()}) < count:
            await asyncio.sleep(0.1)
    return found


async def is_empty(service: Service) -> bool:
    async with asyncio.timeout(10):
        while any(path.is_file() for path in Path(service.settings.blobs, "outbox").glob("*")):
            await asyncio.sleep(0.05)
    return True


class TestKafkaThatIsNotThereYet:
    async def test_delays_files_and_refuses_none(
        self, early: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        began = time.monotonic()
        answers = [await early.send((f"{number}.txt", b"one")) for number in range(3)]
        assert [answer.status_code for answer in answers] == [202] * 3
        assert time.monotonic() - began < 2
        assert "Kafka does not answer" in await noted(early)
        assert early.settings.kafka not in await noted(early)
        assert "3 events wait" in await noted(early)

        await line.open()

        ids = {answer.json()["file_id"] for answer in answers}
        found = await arrived(events, 3)
        assert found.keys() == ids
        assert {event.data.name for event in found.values()} == {"0.txt", "1.txt", "2.txt"}
        assert await is_empty(early)

    async def test_may_be_away_for_too_long(
        self, early: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outbox, "MAX_WAITING", 1)
        assert (await early.send(("a.txt", b"one"))).status_code == 202
        before = early.blobs()

        refused = await early.send(("b.txt", b"two"))

        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["code"] == "kafka_unavailable"
        assert "again later" in refused.json()["detail"]
        assert early.settings.kafka not in refused.text
        assert early.blobs() == before
        assert (await early.client.get("/health/live")).status_code == 200
        ready = await early.client.get("/health/ready")
        assert ready.status_code == 503
        assert "1 events wait" in ready.json()["reason"]


class TestKafkaThatGoesAway:
    async def test_costs_an_upload_a_wait_and_no_file(
        self, service: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        await line.cut()
        began = time.monotonic()

        answer = await service.send(("a.txt", b"one"), ("b.txt", b"two"))

        assert answer.status_code == 202
        assert time.monotonic() - began < TIMEOUT + 2
        await line.open()
        found = await arrived(events, 2)
        assert found.keys() == {file["file_id"] for file in answer.json()["files"]}

    async def test_keeps_the_file_of_an_event_that_may_be_in_the_outbox(
        self,
        service: Service,
        line: KafkaLine,
        events: UploadedEvents,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        put = BlobStore.put

        async def put_and_lose_the_answer(
            self: BlobStore, key: str, data: bytes, *, anywhere: bool = False
        ) -> str:
            stored = await put(self, key, data, anywhere=anywhere)
            if key.startswith(outbox.PREFIX):
                raise BlobStoreUnavailableError
            return stored

        monkeypatch.setattr(BlobStore, "put", put_and_lose_the_answer)
        await line.cut()

        assert (await service.send(("a.txt", b"one"))).status_code == 503

        await line.open()
        ((file_id, _),) = (await arrived(events, 1)).items()
        assert service.blob(file_id) == b"one"

    async def test_is_noticed_and_found_again(self, service: Service, line: KafkaLine) -> None:
        await line.cut()
        assert "Kafka does not answer" in await noted(service)

        await line.open()

        await until_connected(service.client)
        assert (await service.send(("a.txt", b"one"))).status_code == 202

    async def test_leaves_its_events_to_any_other_pod(
        self, settings: UploadSettings, service: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        await line.cut()
        answer = await service.send(("a.txt", b"one"))

        async with running(settings) as other:  # It has its own connection to Kafka.
            assert (await arrived(events, 1)).keys() == {answer.json()["file_id"]}
            assert await is_empty(other)


class TestKafkaThatFallsSilent:
    async def test_delays_every_waiting_upload_by_its_time_and_no_more(
        self, service: Service, line: KafkaLine
    ) -> None:
        line.silence()
        began = time.monotonic()

        # Events behind the first wait for its connection. This must not extend their timeout.
        answers = await asyncio.gather(*(service.send(("a.txt", b"one")) for _ in range(5)))

        assert [answer.status_code for answer in answers] == [202] * 5
        assert time.monotonic() - began < TIMEOUT + 2

    async def test_may_have_an_event_twice_which_is_the_same(
        self, service: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        line.silence()
        answer = await service.send(("a.txt", b"one"))
        await line.cut()
        await line.open()

        assert await is_empty(service)
        assert {event.id for event in await events.all()} == {
            f"{answer.json()['file_id']}:1:0:file.uploaded"
        }

"""Without Kafka nothing is accepted, everybody is told so soon, and it mends by itself."""

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from services.upload import link
from services.upload.app import create_app
from services.upload.settings import UploadSettings
from tests.services.upload.service import UPLOAD, Service, UploadedEvents, running
from tests.support.kafka_line import KafkaLine, line_to
from tests.support.serving import served, until_ready

TIMEOUT = 1.0
"""Seconds that these tests give Kafka to take an event."""


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RETRY_EVERY", 0.1)
    monkeypatch.setattr(link, "LOOK_EVERY", 0.3)
    monkeypatch.setattr(link, "PATIENCE", 1.0)


@pytest.fixture
async def line(settings: UploadSettings) -> AsyncIterator[KafkaLine]:
    async with line_to(settings.kafka) as line:
        yield line


@pytest.fixture
async def service(settings: UploadSettings, line: KafkaLine) -> AsyncIterator[Service]:
    """A service whose Kafka is at the other end of the line, and known to it."""
    async with running(settings, kafka=line.address, publish_timeout=TIMEOUT) as service:
        assert (await service.send(("before.txt", b"one"))).status_code == 202
        service.clear_blobs()
        yield service


@pytest.fixture
async def early(settings: UploadSettings, line: KafkaLine) -> AsyncIterator[Service]:
    """A service that was started before its Kafka."""
    await line.cut()
    settings = settings.model_copy(update={"kafka": line.address, "publish_timeout": TIMEOUT})
    async with served(create_app(settings)) as client:
        yield Service(client, settings)


def assert_turned_away(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["code"] == "kafka_unavailable"
    assert "again later" in answer.json()["detail"]


async def until_unready(client: httpx.AsyncClient) -> httpx.Response:
    async with asyncio.timeout(10):
        while (answer := await client.get("/health/ready")).status_code == 200:
            await asyncio.sleep(0.05)
    return answer


class TestKafkaThatIsNotThereYet:
    async def test_turns_uploads_away_before_they_are_read(self, early: Service) -> None:
        began = time.monotonic()

        answer = await early.send(("a.txt", b"x" * 5_000_000))

        assert_turned_away(answer)
        assert early.settings.kafka not in answer.text
        assert time.monotonic() - began < 2
        assert early.blobs() == []

    async def test_makes_the_service_live_but_not_ready(self, early: Service) -> None:
        assert (await early.client.get("/health/live")).status_code == 200
        ready = await early.client.get("/health/ready")
        assert ready.status_code == 503
        assert early.settings.kafka in ready.json()["reason"]

    async def test_is_found_when_it_comes(
        self, early: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        assert_turned_away(await early.send(("a.txt", b"one")))

        await line.open()
        await until_ready(early.client)

        answer = await early.send(("a.txt", b"one"))
        assert answer.status_code == 202
        assert (await events.one()).file_id == answer.json()["file_id"]


class TestKafkaThatGoesAway:
    async def test_fails_the_upload_in_time_and_leaves_nothing(
        self, service: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        await line.cut()
        began = time.monotonic()

        answer = await service.send(("a.txt", b"one"), ("b.txt", b"two"))

        assert_turned_away(answer)
        assert time.monotonic() - began < TIMEOUT + 2
        assert service.blobs() == []
        assert await events.all() == []

    async def test_is_noticed_and_found_again(self, service: Service, line: KafkaLine) -> None:
        await line.cut()
        unready = await until_unready(service.client)
        assert service.settings.kafka in unready.json()["reason"]
        assert_turned_away(await service.send(("a.txt", b"one")))

        await line.open()
        await until_ready(service.client)

        assert (await service.send(("a.txt", b"one"))).status_code == 202

    async def test_and_comes_back_at_once_costs_at_most_a_wait(
        self, service: Service, line: KafkaLine
    ) -> None:
        await line.cut()
        upload = asyncio.create_task(service.send(("a.txt", b"one")))
        await asyncio.sleep(TIMEOUT / 4)
        await line.open()

        assert (await upload).status_code == 202


class TestKafkaThatFallsSilent:
    async def test_fails_every_waiting_upload_in_time(
        self, service: Service, line: KafkaLine
    ) -> None:
        line.silence()
        began = time.monotonic()

        # Those behind the first wait for its connection; they must not wait longer for that.
        answers = await asyncio.gather(*(service.send(("a.txt", b"one")) for _ in range(5)))

        for answer in answers:
            assert_turned_away(answer)
        assert time.monotonic() - began < TIMEOUT + 2
        assert service.blobs() == []

    async def test_may_have_the_event_of_an_upload_that_was_turned_away(
        self, service: Service, line: KafkaLine, events: UploadedEvents
    ) -> None:
        """The one case that cannot be told apart; its blob is gone, so nothing is processed."""
        line.silence()
        assert_turned_away(await service.send(("a.txt", b"one")))

        assert (await events.one()).data.name == "a.txt"
        assert service.blobs() == []


async def test_a_port_where_nothing_listens_is_answered_within_seconds(
    settings: UploadSettings, unused_tcp_port: int
) -> None:
    settings = settings.model_copy(update={"kafka": f"127.0.0.1:{unused_tcp_port}"})
    async with served(create_app(settings)) as client:
        began = time.monotonic()
        answer = await client.post(UPLOAD, files={"file": ("a.txt", b"one")})

    assert_turned_away(answer)
    assert time.monotonic() - began < 2

"""The status service's background loops: killed by name, on a frozen Kafka, without MongoDB."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.status import loops, preparation
from services.status.app import create_app
from services.status.monitoring import monitor
from services.status.monitoring import queue_stats as queue_stats
from services.status.settings import StatusSettings
from shared import deadlines
from shared.events.events import new_file_id
from shared.kafka import connection
from shared.kafka.publishing import Publisher
from shared.telemetry import FILES, LAG
from tests.services.status.asking import publish, status_path, wait_for
from tests.services.status.monitoring.test_stats import stats_with
from tests.support.builders import completed, processing, uploaded
from tests.support.kafka_line import KafkaLine
from tests.support.killing import failures, kill_each
from tests.support.serving import served, until_ready
from waybill.local.mongodb import start_mongodb, wait_for_mongodb
from waybill.local.parts import Parts
from waybill.local.process import Child


async def test_every_loop_that_is_killed_is_back_and_does_its_work(
    status_settings: StatusSettings, publisher: Publisher
) -> None:
    app = create_app(status_settings)
    async with served(app) as client:
        await until_ready(client)
        running = set(app.state.supervisor.names)
        assert running == {each.name for each in loops.LOOPS} - {"retention"}
        await kill_each(
            app.state.supervisor, [each for each in loops.LOOPS if each.name in running]
        )
        # What the loops are for is done: a file is projected, told and counted.
        file_id = new_file_id()
        await publish(publisher, file_id, uploaded(), processing(), completed())
        await wait_for(client, file_id, "completed")
        await stats_with(client, completed=1)
        await until_ready(client)
        metrics = (await client.get("/metrics")).text
        assert 'waybill_loop_last_success_seconds{loop="monitor"}' in metrics


async def test_a_pod_that_starts_without_kafka_waits_for_it(
    status_settings: StatusSettings,
    publisher: Publisher,
    kafka_line: KafkaLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparation, "RECONNECT_AFTER", 0.1)
    before = failures(loops.COMMANDS.name)
    await kafka_line.cut()
    settings = status_settings.model_copy(update={"kafka": kafka_line.address})
    async with served(create_app(settings)) as client:
        async with asyncio.timeout(30):
            while failures(loops.COMMANDS.name) < before + 2:
                await asyncio.sleep(0.05)
        answer = await client.get("/health/ready")
        assert answer.status_code == 503
        assert "waiting for" in answer.json()["reason"]
        monkeypatch.setattr(preparation, "RECONNECT_AFTER", 20.0)
        await kafka_line.open()
        await until_ready(client, seconds=60)
        file_id = new_file_id()
        await publish(publisher, file_id, uploaded(), processing(), completed())
        await wait_for(client, file_id, "completed")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines and lateness of a second or so."""
    monkeypatch.setattr(deadlines, "KAFKA_ANSWERS_WITHIN", 1.0)
    monkeypatch.setattr(connection, "SILENT_FOR", 2.0)
    monkeypatch.setattr(queue_stats, "FRESH", 2.0)
    monkeypatch.setattr(monitor, "FRESH", 2.0)
    for name in ("FANOUT", "MONITOR"):
        monkeypatch.setattr(loops, name, replace(getattr(loops, name), late_after=2.0))
    for gauge in (FILES, LAG):
        monkeypatch.setattr(gauge, "_fresh_for", 2.0)


@asynccontextmanager
async def frozen(child: Child) -> AsyncIterator[None]:
    """A process that the kernel does not run during the block: its connections stay open."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


async def ready_is(client: httpx.AsyncClient, code: int) -> dict[str, Any]:
    """Wait until `/health/ready` has this code; returns what it says then."""
    async with asyncio.timeout(60):
        while (answer := await client.get("/health/ready")).status_code != code:
            await asyncio.sleep(0.1)
    said: dict[str, Any] = answer.json()
    return said


@pytest.mark.usefixtures("hasty")
async def test_after_kafka_was_frozen_the_statistics_and_places_are_back(
    parts: Parts, status_settings: StatusSettings, publisher: Publisher
) -> None:
    kafka = parts.children.get("kafka")
    if kafka is None:
        pytest.skip("the environment names a Kafka, which is not ours to freeze")
    waiting = new_file_id()
    async with served(create_app(status_settings)) as client:
        await until_ready(client)
        await publish(publisher, waiting, uploaded())
        await stats_with(client, pending=1)
        async with frozen(kafka):
            said = await ready_is(client, 503)
            assert "the loop fan-out is late: its last success was" in said["reason"]
            async with asyncio.timeout(30):
                while (stats := (await client.get("/api/stats")).json())["queue"] is not None:
                    await asyncio.sleep(0.1)
            assert stats["lag"] is None
            assert any("fan-out" in each for each in stats["degraded"])
            metrics = (await client.get("/metrics")).text
            assert "waybill_files{" not in metrics
            assert "waybill_lag_records{" not in metrics
            assert 'waybill_loop_last_success_seconds{loop="fan-out"}' in metrics
        await ready_is(client, 200)
        stats = await stats_with(client, pending=1)
        assert stats["queue"]["length"] == 1
        assert stats["lag"] is not None
        async with asyncio.timeout(30):
            while (await client.get(status_path(waiting))).json()["queue"] is None:
                await asyncio.sleep(0.1)
        assert "waybill_files{" in (await client.get("/metrics")).text


class OwnMongo:
    """A MongoDB that a test can take away."""

    def __init__(self, folder: Path) -> None:
        self._child, self.uri = start_mongodb(folder / "data", folder)
        wait_for_mongodb(self._child, self.uri)

    def kill(self) -> None:
        self._child.finish(time.monotonic())

    def start_again(self) -> None:
        self._child = self._child.again()
        wait_for_mongodb(self._child, self.uri)

    def stop(self) -> None:
        self._child.terminate()
        self._child.finish(time.monotonic() + 10)


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[OwnMongo]:
    own = OwnMongo(tmp_path / "mongodb")
    yield own
    own.stop()


class Following:
    """A stream over all files, as it comes."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.told: list[tuple[str, str]] = []
        self.heartbeats = 0
        self.ended = False

    async def run(self) -> None:
        async with self._client.stream("GET", "/api/stream") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: ") and '"file_id"' in line:
                    status = json.loads(line.removeprefix("data: "))
                    self.told.append((status["file_id"], status["status"]))
                self.heartbeats += line.startswith(":")
        self.ended = True

    def states_of(self, file_id: str) -> list[str]:
        return [status for each, status in self.told if each == file_id]

    async def until(self, file_id: str, *states: str) -> None:
        async with asyncio.timeout(40):
            while self.states_of(file_id) != list(states):
                await asyncio.sleep(0.05)


async def test_streams_go_on_without_mongodb_and_nothing_is_missing_when_it_is_back(
    status_settings: StatusSettings,
    publisher: Publisher,
    mongo: OwnMongo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing is held that MongoDB has: so each event of an old file needs its document.
    monkeypatch.setattr("services.status.live.overlay.MAX_HELD", 0)
    settings = status_settings.model_copy(update={"mongodb": mongo.uri})
    old, new = new_file_id(), new_file_id()
    async with served(create_app(settings)) as client:
        await until_ready(client)
        following = Following(client)
        task = asyncio.create_task(following.run())
        await publish(publisher, old, uploaded(), processing())
        await following.until(old, "pending", "processing")
        await stats_with(client, processing=1)
        await asyncio.to_thread(mongo.kill)
        try:
            await publish(publisher, old, completed())
            await publish(publisher, new, uploaded(), processing(), completed())
            await following.until(new, "pending", "processing", "completed")
            beats = following.heartbeats
            async with asyncio.timeout(30):
                while following.heartbeats < beats + 2:
                    await asyncio.sleep(0.05)
                while not (said := await ready_is(client, 200)).get("degraded"):
                    await asyncio.sleep(0.1)
            assert any("MongoDB is unavailable" in each for each in said["degraded"])
            stats = (await client.get("/api/stats")).json()
            assert stats["oldest"] is None
            assert stats["lag"] is not None
            assert any("MongoDB is unavailable" in each for each in stats["degraded"])
            # Of a file that is not known nothing is told that may be wrong.
            assert following.states_of(old) == ["pending", "processing"]
            assert (await client.get(status_path(new))).json()["status"] == "completed"
            # An id that was just handed out is waited for, and commands about it are taken.
            young = new_file_id()
            asking = asyncio.create_task(client.get(status_path(young)))
            await publish(publisher, young, uploaded())
            assert (await asking).status_code == 200
            assert (await client.get(f"/api/files/{young}/events")).status_code == 200
            assert (await client.post(f"/api/files/{young}/cancel")).status_code == 202
            assert (await client.delete(f"/api/files/{young}")).status_code == 202
            assert (await client.get(status_path(young))).status_code == 410
        finally:
            await asyncio.to_thread(mongo.start_again)
        await following.until(old, "pending", "processing", "completed")
        assert following.states_of(new) == ["pending", "processing", "completed"]
        # Not by the counts: a MongoDB that was killed has forgotten how many documents it has.
        async with asyncio.timeout(40):
            listed: set[str] = set()
            while listed != {old, new}:
                page = await client.get("/api/files", params={"status": "completed"})
                listed = {each["file_id"] for each in page.json()["items"]}
                await asyncio.sleep(0.1)
        async with asyncio.timeout(30):
            while (await client.get("/health/ready")).json().get("degraded"):
                await asyncio.sleep(0.1)
        assert not following.ended
        task.cancel()
        await asyncio.wait({task})

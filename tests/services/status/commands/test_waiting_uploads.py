"""Files that were accepted while Kafka was unavailable are visible and accept commands."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from services.processor.settings import ProcessorSettings
from services.status.api import files
from services.status.app import create_app
from services.status.commands import waiting_uploads as waiting
from services.status.live.hub import Hub
from services.status.settings import StatusSettings
from services.status.store.access import Visibility
from services.status.store.store import FileStore
from services.upload import kafka_connection as upload_link
from services.upload.intake import outbox as upload_outbox
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal, Scope
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.errors import OverloadedError
from shared.events.events import new_file_id
from shared.events.topics import CONTROL, LIFECYCLE
from shared.kafka.publishing import Publisher
from shared.outbox import relay_commands, upload_key
from shared.settings import Settings
from shared.telemetry import OUTBOX_DAMAGED
from tests.services.processor.pods import processing_pod, types_of
from tests.services.status.asking import status_path, wait_for
from tests.services.upload.service import Service, running
from tests.support.builders import about, processing, uploaded
from tests.support.consuming import consume, count
from tests.support.kafka_line import KafkaLine, line_to
from tests.support.serving import served, until_ready


@dataclass
class Installation:
    """Both services, with a connection to Kafka that can be interrupted."""

    upload: Service
    status: httpx.AsyncClient
    line: KafkaLine

    async def accepted(self, name: str = "late.txt") -> str:
        answer = await self.upload.send((name, b"words"))
        assert answer.status_code == 202, answer.text
        file_id: str = answer.json()["file_id"]
        return file_id


@pytest.fixture
async def installation(
    settings: Settings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    assert publisher
    monkeypatch.setattr(upload_link, "RETRY_INTERVAL", 0.1)
    monkeypatch.setattr(upload_link, "CHECK_INTERVAL", 0.3)
    monkeypatch.setattr(upload_link, "UNAVAILABLE_AFTER", 1.0)
    monkeypatch.setattr(upload_outbox, "POLL_INTERVAL", 0.1)
    monkeypatch.setattr(waiting, "CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(files, "YOUNG_WAIT", 0.2)
    async with line_to(settings.kafka) as line:
        changes = {"kafka": line.address}
        uploads = UploadSettings(**settings.model_dump() | changes, publish_timeout=0.5)
        statuses = StatusSettings(**settings.model_dump() | changes, heartbeat=0.5)
        async with (
            running(uploads) as upload,
            served(create_app(statuses)) as status,
        ):
            await until_ready(status)
            yield Installation(upload, status, line)


async def test_an_id_that_was_answered_202_is_known_while_kafka_is_away(
    installation: Installation,
) -> None:
    await installation.line.cut()
    file_id = await installation.accepted()
    status = installation.status
    for path in (status_path(file_id), f"/api/files/{file_id}"):
        answer = await status.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "pending"), answer.text
        assert answer.json()["name"] == "late.txt"
    assert (await status.get(f"/api/files/{file_id}/source")).content == b"words"
    polled = await status.get(status_path(file_id), params={"wait": 0.3})
    assert (polled.status_code, polled.json()["status"]) == (200, "pending")
    async with status.stream("GET", status_path(file_id), params={"stream": True}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                assert file_id in line
                break
    assert (await status.get(status_path(new_file_id()))).status_code == 404
    await installation.line.open()
    assert (await wait_for(status, file_id, "pending")).status_code == 200


async def test_a_cancelled_and_a_deleted_file_never_begin_once_kafka_is_back(
    installation: Installation, settings: Settings
) -> None:
    await installation.line.cut()
    unwanted, gone, wanted = [await installation.accepted() for _ in range(3)]
    status = installation.status
    cancelled = await status.post(f"/api/files/{unwanted}/cancel", params={"reason": "no need"})
    assert (cancelled.status_code, cancelled.json()["phase"]) == (202, "cancelling")
    assert (await status.get(status_path(unwanted))).json()["phase"] == "cancelling"
    deleted = await status.delete(f"/api/files/{gone}")
    assert deleted.status_code == 202, deleted.text
    assert (await status.get(status_path(gone))).status_code == 410
    await installation.line.open()
    assert (await wait_for(status, unwanted, "cancelled")).json()["run"] == 1
    pod = ProcessorSettings(**settings.model_dump(), workers=2, pod="late")
    async with processing_pod(pod):
        await wait_for(status, wanted, "completed")
        async with asyncio.timeout(30):
            while await count(settings, CONTROL) < 4:  # Two requests and two tombstones.
                await asyncio.sleep(0.05)
    events = await consume(settings, LIFECYCLE, await count(settings, LIFECYCLE))
    assert set(types_of(events, unwanted)) == {"cancelled"}
    assert set(types_of(events, gone)) == {"cancelled", "deleted"}
    assert (await status.get(status_path(gone))).status_code == 410


@pytest.mark.parametrize("damage", ["empty", "cut", "of another file", "no upload"])
async def test_an_upload_that_is_damaged_in_the_outbox_stays_known(
    installation: Installation, settings: Settings, damage: str
) -> None:
    await installation.line.cut()
    # An entry of its own: a relay may hold the intact content of one that the service wrote.
    damaged, whole = new_file_id(), await installation.accepted()
    blobs = open_blob_store(settings)
    content = await blobs.get(upload_key(whole))
    contents = {
        "empty": b"",
        "cut": content[:100],
        "of another file": content,
        "no upload": about(damaged, processing()).to_json(),
    }
    await blobs.put(upload_key(damaged), contents[damage])
    before = OUTBOX_DAMAGED._value.get()
    await installation.line.open()
    assert (await wait_for(installation.status, whole, "pending")).status_code == 200
    async with asyncio.timeout(30):
        while await blobs.keys("outbox/") != [upload_key(damaged)]:
            await asyncio.sleep(0.05)
    answer = await installation.status.get(status_path(damaged))
    assert (answer.status_code, answer.json()["code"]) == (500, "damaged_upload"), answer.text
    assert "operator" in answer.json()["detail"]
    assert OUTBOX_DAMAGED._value.get() > before
    ready = await installation.upload.client.get("/health/ready")
    assert ready.status_code == 200, ready.text


async def test_a_command_that_came_too_late_for_the_relay_is_published_all_the_same(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    blobs = open_blob_store(settings)
    file_id = new_file_id()
    event = about(file_id, uploaded())
    await blobs.put(upload_key(file_id), event.to_json())
    assert (await client.post(f"/api/files/{file_id}/cancel")).status_code == 202
    await publisher.publish(event)
    await blobs.delete(upload_key(file_id))
    await relay_commands(blobs, publisher)
    await wait_for(client, file_id, "cancelled")
    assert await blobs.keys("outbox-commands/") == []


@pytest.mark.parametrize("name", ["../sources/x", "nope", "0" * 36, "{0}", "urn:uuid:{0}"])
async def test_what_is_no_id_is_not_looked_for(settings: Settings, name: str) -> None:
    blobs = open_blob_store(settings)

    async def refuse(key: str) -> bytes:
        raise AssertionError(key)

    blobs.get = refuse  # type: ignore[method-assign]
    found = await waiting.WaitingUploads(blobs).find(name.format(new_file_id().upper()))
    assert found is None


async def test_a_flood_of_invented_ids_is_told_to_come_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_QUEUED", 2)
    released = asyncio.Event()

    async def slow(_: BlobStore, __: str) -> None:
        await released.wait()

    monkeypatch.setattr(waiting, "waiting_upload", slow)
    uploads = waiting.WaitingUploads(open_blob_store(settings))
    samples = [asyncio.create_task(uploads.find(new_file_id())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await uploads.find(new_file_id())
    released.set()
    assert await asyncio.gather(*samples) == [None, None]


async def test_another_owners_waiting_file_is_answered_like_an_unknown_one(
    settings: Settings, publisher: Publisher
) -> None:
    assert publisher
    file_id = new_file_id()
    event = about(file_id, uploaded(owner="ada", tenant="acme"))
    await open_blob_store(settings).put(upload_key(file_id), event.to_json())
    store = FileStore(settings)
    hub = Hub(store, max_subscribers=10, max_per_client=10)
    hub.outbox = waiting.WaitingUploads(open_blob_store(settings))
    ada = Visibility.of(Principal(subject="ada", tenant="acme", scopes=frozenset({Scope.READ})))
    bob = Visibility.of(Principal(subject="bob", tenant="acme", scopes=frozenset({Scope.READ})))
    assert await hub.current(file_id, ada) is not None
    assert await hub.current(file_id, bob) is None
    store.close()

"""A deleted file is gone for every user, and its stored data is erased permanently."""

import asyncio

import httpx
import pytest

from services.status.replay.replay import replay
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.places import attempt_prefix, source_key
from shared.events.events import FileCancelRequested, FileDeleted, FileRequeued, new_file_id
from shared.events.topics import CONTROL, LIFECYCLE, UPLOADED
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import completed, failed, processing, uploaded
from tests.support.consuming import consume, values
from tests.support.stored import stored_files


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blob_store(settings)


async def stored(blobs: BlobStore, file_id: str) -> list[str]:
    return [key for key in await blobs.keys("") if file_id in key]


async def until_erased(blobs: BlobStore, file_id: str) -> None:
    async with asyncio.timeout(20):
        while await stored(blobs, file_id):
            await asyncio.sleep(0.05)


async def test_a_deleted_file_leaves_nothing_but_the_fact_that_it_was_deleted(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    store: FileStore,
    blobs: BlobStore,
) -> None:
    file_id, neighbour = new_file_id(), new_file_id()
    for each in (file_id, neighbour):
        await blobs.put(source_key(each), b"hello")
        await blobs.put(f"{attempt_prefix(each, 1, 1)}/text.txt", b"hello")
        await publish(publisher, each, uploaded(owner="ann", name="a.txt"), completed())
        await wait_for(client, each, "completed")
    answer = await client.delete(f"/api/files/{file_id}", params={"reason": "not needed"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["deleted_at"] is not None
    assert (answer.json()["owner"], answer.json()["name"]) == (None, None)
    for path in ("process/status", "result", "source", "events", "artifacts/text.txt"):
        gone = await client.get(f"/api/files/{file_id}/{path}")
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted"), path
    assert (await client.delete(f"/api/files/{file_id}")).status_code == 410
    await until_erased(blobs, file_id)
    async with asyncio.timeout(20):
        while await store.to_erase(10):
            await asyncio.sleep(0.05)
    assert (await values(settings, UPLOADED, 3))[file_id][-1] is None
    assert len(await stored(blobs, neighbour)) == 2
    listed = (await client.get("/api/files")).json()["items"]
    assert [each["file_id"] for each in listed] == [neighbour]


async def test_a_file_in_a_pack_is_downloaded_started_anew_and_erased(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    status_settings: StatusSettings,
    store: FileStore,
    blobs: BlobStore,
) -> None:
    file_id, neighbour = new_file_id(), new_file_id()
    async with blobs.blob_writer():
        keys = [
            await blobs.put(source_key(each), each.encode(), anywhere=True)
            for each in (file_id, neighbour)
        ]
    key = keys[0]
    await publish(publisher, file_id, uploaded(blob=key, size=len(file_id)), failed())
    await wait_for(client, file_id, "failed")
    assert "blob" not in (await client.get(status_path(file_id))).json()
    async with asyncio.timeout(20):
        while (known := await store.get(file_id)) is None or known.source != key:
            await asyncio.sleep(0.05)

    assert (await client.get(f"/api/files/{file_id}/source")).text == file_id
    await store.drop()
    await replay(status_settings)
    known = await store.get(file_id)
    assert known is not None
    assert known.source == key
    assert (await client.post(f"/api/files/{file_id}/retry")).status_code == 202
    requeue = (await consume(settings, UPLOADED, 2))[1]
    assert isinstance(requeue, FileRequeued)
    assert requeue.data.blob == key
    assert (await client.delete(f"/api/files/{file_id}")).status_code == 202

    async with asyncio.timeout(20):
        while await stored_files(blobs) != {neighbour: keys[1]}:
            await asyncio.sleep(0.05)


async def test_the_work_on_a_file_that_is_deleted_is_cancelled(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing())
    await wait_for(client, file_id, "processing")
    assert (await client.delete(f"/api/files/{file_id}")).status_code == 202
    (request,) = await consume(settings, CONTROL, 1)
    assert isinstance(request, FileCancelRequested)
    assert (request.file_id, request.data.run) == (file_id, 1)
    assert isinstance((await consume(settings, LIFECYCLE, 2))[-1], FileDeleted)


async def test_what_an_attempt_stores_after_the_deletion_is_erased_as_well(
    client: httpx.AsyncClient, publisher: Publisher, blobs: BlobStore
) -> None:
    file_id = new_file_id()
    await blobs.put(source_key(file_id), b"hello")
    await publish(publisher, file_id, uploaded(), processing())
    await wait_for(client, file_id, "processing")
    assert (await client.delete(f"/api/files/{file_id}")).status_code == 202
    await until_erased(blobs, file_id)
    await blobs.put(f"{attempt_prefix(file_id, 1, 1)}/text.txt", b"late")
    await publish(publisher, file_id, completed())
    await until_erased(blobs, file_id)
    assert (await client.get(status_path(file_id))).status_code == 410


async def test_a_file_under_legal_hold_is_not_deleted(
    client: httpx.AsyncClient, publisher: Publisher, blobs: BlobStore
) -> None:
    file_id = new_file_id()
    await blobs.put(source_key(file_id), b"hello")
    await publish(publisher, file_id, uploaded(labels={"legal_hold": "case 7"}), completed())
    await wait_for(client, file_id, "completed")
    refused = await client.delete(f"/api/files/{file_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "legal_hold")
    assert (await client.get(status_path(file_id))).json()["status"] == "completed"
    assert await blobs.get(source_key(file_id)) == b"hello"


async def test_a_replay_does_not_bring_a_deleted_file_back(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    store: FileStore,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(owner="ann"), completed())
    await wait_for(client, file_id, "completed")
    assert (await client.delete(f"/api/files/{file_id}")).status_code == 202
    async with asyncio.timeout(20):
        while (known := await store.get(file_id)) is None or known.deleted_at is None:
            await asyncio.sleep(0.05)
    # Kafka has not compacted the topic yet, so the upload is read again.
    await store.drop()
    await replay(status_settings)
    back = await store.get(file_id)
    assert back is not None
    assert (back.deleted_at, back.owner) == (known.deleted_at, None)
    assert (await client.get(status_path(file_id))).status_code == 410

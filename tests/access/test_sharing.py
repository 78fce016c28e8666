"""Sharing a file, and revoking it, takes effect immediately on every pod."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import websockets

from services.status.commands.sharing import MAX_READERS
from services.status.monitoring.queue_stats import QueueStats
from services.status.replay.auditor import Auditor
from services.status.replay.replay import replay
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.events.events import FileCommanded, new_file_id
from shared.events.facts import reader_key
from shared.events.topics import ACCESS, COMMANDS, PARTITIONS
from shared.settings import Settings
from tests.access.installation import (
    JWT,
    STORED,
    UNKNOWN,
    Installation,
    members,
    ours,
    running,
    settings_of,
    status_pod,
    without_id,
)
from tests.access.people import EVERYBODY, WHO, bearer, token
from tests.support.builders import completed, processing, progressed
from tests.support.consuming import consume, count, values
from waybill.local.parts import Parts

OWNER, OTHER = bearer(EVERYBODY["owner"]), bearer(EVERYBODY["other"])


@pytest.fixture(scope="module")
def shared_settings(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(parts, tmp_path_factory.mktemp("blobs"), "sharing")


@pytest.fixture(scope="module")
async def installation(shared_settings: Settings) -> AsyncIterator[Installation]:
    async with running(shared_settings) as started:
        yield started


@pytest.fixture(scope="module")
async def other_pod(
    installation: Installation,  # noqa: ARG001 - it creates the topics and the database
    shared_settings: Settings,
) -> AsyncIterator[httpx.AsyncClient]:
    async with status_pod(shared_settings) as client:
        yield client


@pytest.fixture
async def file_id(installation: Installation) -> str:
    """Create a file of ada that is in progress, and return its id."""
    made = new_file_id()
    await installation.publish(made, ours(), processing())
    async with asyncio.timeout(20):
        while (await installation.status.get(f"/api/files/{made}", headers=OWNER)).is_error:
            await asyncio.sleep(0.02)
    return made


async def decide(
    client: httpx.AsyncClient,
    method: str,
    file_id: str,
    subject: str = "bob",
    headers: dict[str, str] = OWNER,
) -> httpx.Response:
    return await client.request(method, f"/api/files/{file_id}/shares/{subject}", headers=headers)


async def until_lists(client: httpx.AsyncClient, file_id: str, *, listed: bool) -> None:
    """Wait until the list, which reads from MongoDB, contains a file or no longer does."""
    async with asyncio.timeout(20):
        while (file_id in members(await client.get("/api/files", headers=OTHER))) != listed:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def events(
    client: httpx.AsyncClient, path: str, **params: str
) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, object]]]]:
    """Yield the names and data of the Server-Sent Events that bob receives."""

    async def read(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, object]]]:
        name = "message"
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))
                name = "message"

    async with client.stream("GET", path, params=params, headers=OTHER) as response:
        assert response.status_code == 200
        yield read(response)


async def test_a_file_is_read_by_whom_it_is_shared_with_and_by_them_no_longer_afterwards(
    installation: Installation, other_pod: httpx.AsyncClient
) -> None:
    client = installation.status
    paths = [
        f"/api/files/{{}}{rest}"
        for rest in ("", "/process/status", "/result", "/artifacts/text.txt", "/source", "/events")
    ]
    answer = await decide(client, "PUT", STORED)
    assert answer.status_code == 202, answer.text
    assert answer.json()["items"] == [{"subject": "bob"}, {"subject": "carl"}]
    await until_lists(other_pod, STORED, listed=True)
    for pod in (client, other_pod):
        for path in paths:
            assert (await pod.get(path.format(STORED), headers=OTHER)).is_success, path
        body = (await pod.get(f"/api/files/{STORED}", headers=OTHER)).text
        assert "carl" not in body  # Only the owner sees the other readers.
    assert (await decide(other_pod, "DELETE", STORED)).status_code == 202
    await until_lists(client, STORED, listed=False)
    for pod in (client, other_pod):
        for path in paths:
            gone = await pod.get(path.format(STORED), headers=OTHER)
            unknown = await pod.get(path.format(UNKNOWN), headers=OTHER)
            assert without_id(gone, STORED) == without_id(unknown, UNKNOWN)


async def test_who_reads_a_file_shares_it_with_nobody(
    installation: Installation, file_id: str
) -> None:
    await decide(installation.status, "PUT", file_id)
    for method in ("PUT", "DELETE"):
        for subject in ("eve", "bob", "ada"):
            answer = await decide(installation.status, method, file_id, subject, OTHER)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    listed = await installation.status.get(f"/api/files/{file_id}/shares", headers=OWNER)
    assert listed.json() == {"file_id": file_id, "items": [{"subject": "bob"}]}


async def test_a_stream_shows_what_is_shared_and_then_tells_that_it_was_withdrawn(
    installation: Installation, other_pod: httpx.AsyncClient, file_id: str
) -> None:
    async with asyncio.timeout(30), events(other_pod, "/api/stream") as received:
        assert (await anext(received))[0] == "subscribed"
        await decide(installation.status, "PUT", file_id)
        name, state = await anext(received)
        assert (name, state["file_id"], state["status"]) == ("message", file_id, "processing")
        await installation.publish(file_id, progressed(1))
        assert (await anext(received))[1]["phase"] == "extracting"
        await decide(installation.status, "DELETE", file_id)
        assert await anext(received) == ("withdrawn", {"file_id": file_id})
        # No more events of this file: the next one is about the file shared afterwards.
        await installation.publish(file_id, completed())
        later = new_file_id()
        await installation.publish(later, ours(), processing())
        await installation.status.get(f"/api/files/{later}", headers=OWNER)
        await decide(installation.status, "PUT", later)
        assert (await anext(received))[1]["file_id"] == later


async def test_the_stream_of_one_file_ends_when_it_is_withdrawn(
    installation: Installation, other_pod: httpx.AsyncClient, file_id: str
) -> None:
    await decide(installation.status, "PUT", file_id)
    path = f"/api/files/{file_id}/process/status"
    async with asyncio.timeout(30):
        while (await other_pod.get(path, headers=OTHER)).is_error:
            await asyncio.sleep(0.02)
        async with events(other_pod, path, stream="true") as received:
            assert (await anext(received))[1]["status"] == "processing"
            poll = asyncio.create_task(other_pod.get(path, params={"wait": 20}, headers=OTHER))
            await asyncio.sleep(0.2)
            await decide(installation.status, "DELETE", file_id)
            assert [name async for name, _ in received] == ["bye"]
        gone = await poll
        unknown = await other_pod.get(path.replace(file_id, UNKNOWN), headers=OTHER)
    assert without_id(gone, file_id) == without_id(unknown, UNKNOWN)


async def test_a_socket_tells_of_a_file_no_longer_when_it_is_withdrawn(
    installation: Installation, other_pod: httpx.AsyncClient, file_id: str
) -> None:
    await decide(installation.status, "PUT", file_id)
    address = str(other_pod.base_url).replace("http", "ws") + "/api/ws"
    async with (
        asyncio.timeout(30),
        websockets.connect(address, additional_headers=OTHER) as socket,
    ):
        await socket.send(json.dumps({"type": "subscribe", "ids": [file_id]}))
        while (message := json.loads(await socket.recv()))["type"] != "status":
            pass
        cursor = None
        while cursor is None:
            cursor = json.loads(await socket.recv()).get("cursor")
        await installation.publish(file_id, progressed(1))
        await decide(installation.status, "DELETE", file_id)
        while (message := json.loads(await socket.recv()))["type"] != "withdrawn":
            pass
        assert message["file_id"] == file_id
        await installation.publish(file_id, completed())
        # A client that reconnects with its cursor receives nothing from before either.
        await socket.send(json.dumps({"type": "subscribe", "cursor": cursor}))
        while (message := json.loads(await socket.recv()))["type"] != "subscribed":
            assert message["type"] == "heartbeat"
        for _ in range(4):
            message = json.loads(await socket.recv())
            assert message["type"] in {"heartbeat", "withdrawn"}


async def test_a_list_leaves_out_what_is_withdrawn_however_far_the_projector_is(
    installation: Installation, file_id: str
) -> None:
    client = installation.status
    await decide(client, "PUT", file_id)
    await until_lists(client, file_id, listed=True)
    assert (await decide(client, "DELETE", file_id)).status_code == 202
    assert file_id not in members(await client.get("/api/files", headers=OTHER))


async def test_a_deleted_file_names_nobody_with_whom_it_was_shared(
    installation: Installation, shared_settings: Settings
) -> None:
    deleted = new_file_id()
    await installation.publish(deleted, ours(), processing(), completed())
    await decide(installation.status, "PUT", deleted)
    await decide(installation.status, "PUT", deleted, "eve")
    await decide(installation.status, "DELETE", deleted, "eve")
    path = f"/api/files/{deleted}"
    assert (await installation.status.delete(path, headers=OWNER)).status_code == 202
    for headers in (OTHER, OWNER):
        async with asyncio.timeout(20):
            while (answer := await installation.status.get(path, headers=headers)).is_success:
                await asyncio.sleep(0.02)
        assert answer.status_code in {404, 410}
    keys = [f"{deleted}:{reader_key(name)}" for name in ("bob", "eve")]
    async with asyncio.timeout(20):
        records = await access_records(shared_settings)
        while any(records[key][-1] for key in keys):
            await asyncio.sleep(0.1)
            records = await access_records(shared_settings)
    store = FileStore(shared_settings)
    left = await store.get(deleted)
    store.close()
    assert left is not None
    assert [share.reader for share in left.shares] == [None, None]


async def access_records(settings: Settings) -> dict[str, list[bytes | None]]:
    return await values(settings, ACCESS, await count(settings, ACCESS))


async def test_a_replay_gives_everybody_back_what_is_shared_with_them(
    installation: Installation, shared_settings: Settings, file_id: str
) -> None:
    kept, taken = file_id, new_file_id()
    await installation.publish(taken, ours(), processing())
    await installation.status.get(f"/api/files/{taken}", headers=OWNER)
    await decide(installation.status, "PUT", kept)
    await decide(installation.status, "PUT", taken)
    await decide(installation.status, "DELETE", taken)
    await until_lists(installation.status, kept, listed=True)
    settings = StatusSettings(**shared_settings.model_dump(), **JWT)
    store = FileStore(settings)
    async with asyncio.timeout(60):
        # STORED is not in the log.
        while (found := await replay(settings, verify_only=True)).named.keys() != {STORED}:
            await asyncio.sleep(0.1)
    assert found.files == 1
    live = await store.get_many([kept, taken])
    await store.remove(live.values())
    mended = await replay(settings)
    assert mended.named.keys() == {STORED, kept, taken}
    assert await store.get_many([kept, taken]) == live
    store.close()
    await until_lists(installation.status, kept, listed=True)
    assert taken not in members(await installation.status.get("/api/files", headers=OTHER))


async def test_the_auditor_finds_who_reads_a_file_without_having_been_allowed_to(
    installation: Installation, shared_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.status.replay.auditor.SETTLING", 0.01)
    good, forged = new_file_id(), new_file_id()
    for made in (good, forged):
        await installation.publish(made, ours(), processing(), completed())
        await installation.status.get(f"/api/files/{made}", headers=OWNER)
        await decide(installation.status, "PUT", made)
    settings = StatusSettings(**shared_settings.model_dump(), **JWT)
    store = FileStore(settings)
    async with asyncio.timeout(20):
        while (read := await store.get(forged)) is None or not read.shares:
            await asyncio.sleep(0.05)
    stolen = read.shares[0].model_copy(update={"reader": "eve"})
    await store.save([(read, read.model_copy(update={"shares": (stolen,)}))])
    auditor = Auditor(settings, store, QueueStats())
    await asyncio.gather(*(auditor.audit(partition) for partition in range(PARTITIONS)))
    found = {file.file_id: file.fields for file in auditor.findings.drifted}
    assert found.get(forged) == ["shares"]
    assert good not in found
    store.close()


async def test_what_is_shared_is_noted_with_whom_and_by_whom(
    installation: Installation, shared_settings: Settings
) -> None:
    noted_file = new_file_id()
    await installation.publish(noted_file, ours())
    await installation.status.get(f"/api/files/{noted_file}", headers=OWNER)
    operator = bearer(EVERYBODY["operator"])
    assert (await decide(installation.status, "PUT", noted_file, "a/b c")).status_code == 202
    answer = await decide(installation.status, "DELETE", noted_file, "a/b c", operator)
    assert answer.json()["items"] == []
    noted = [
        (event.data.command, event.data.by, event.data.reader)
        for event in await consume(
            shared_settings, COMMANDS, await count(shared_settings, COMMANDS)
        )
        if isinstance(event, FileCommanded) and event.file_id == noted_file
    ]
    assert noted == [
        ("share", WHO["owner"][0], "a/b c"),
        ("unshare", WHO["operator"][0], "a/b c"),
    ]


async def test_what_cannot_be_shared_is_refused(installation: Installation, file_id: str) -> None:
    client = installation.status
    for subject, method in (("ada", "PUT"), ("x" * 256, "PUT"), ("a%00b", "PUT")):
        answer = await decide(client, method, file_id, subject)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter"), subject
    names = [f"reader {number}" for number in range(MAX_READERS)]
    await asyncio.gather(*(decide(client, "PUT", file_id, name) for name in names))
    answer = await decide(client, "PUT", file_id, "one more")
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert (await decide(client, "PUT", file_id, names[0])).status_code == 202


async def test_nothing_is_taken_from_whom_nothing_was_given(
    installation: Installation, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.status.commands.sharing.SEEN_TIMEOUT", 0.2)
    answer = await decide(installation.status, "DELETE", file_id, "nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_share")


async def test_an_operator_keeps_reading_what_is_withdrawn_from_their_name(
    installation: Installation, file_id: str
) -> None:
    await decide(installation.status, "PUT", file_id, "olga")
    await decide(installation.status, "DELETE", file_id, "olga")
    headers = bearer(token("olga", "acme", "operator"))
    assert (await installation.status.get(f"/api/files/{file_id}", headers=headers)).is_success

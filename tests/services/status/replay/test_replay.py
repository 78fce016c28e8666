"""A replay makes MongoDB match the log while the services run."""

import asyncio
import os
import signal
import sys
from typing import Any

import httpx
import pytest

from services.status.projection.projection import FileState
from services.status.replay import offset_ranges as offset_ranges
from services.status.replay.checkpoints import Checkpoints
from services.status.replay.rebuild import Advance
from services.status.replay.replay import rebuild_as_of, replay
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.events.events import new_file_id, utc_now
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import completed, failed, processing, progressed, uploaded

ORDER = ["pending", "processing", "completed"]


class KilledError(Exception):
    """The replay is killed here."""


async def processed_files(publisher: Publisher, count: int) -> list[str]:
    """Publish files with all their events in the log."""
    ids = [new_file_id() for _ in range(count)]
    for file_id in ids:
        await publish(publisher, file_id, uploaded(), processing(), progressed(), completed())
    return ids


async def test_a_replay_gives_back_the_same_documents_while_the_projector_runs(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    store: FileStore,
) -> None:
    ids = await processed_files(publisher, 20)
    for file_id in ids:
        await wait_for(client, file_id, "completed")
    async with asyncio.timeout(20):
        while (await replay(status_settings, verify_only=True)).files:
            await asyncio.sleep(0.1)
    before = [status async for status in store.scan()]
    await store.drop()
    drift = await replay(status_settings)
    assert drift.named == dict.fromkeys(ids, "missing from the live collection")
    assert [status async for status in store.scan()] == before
    assert (await replay(status_settings, verify_only=True)).lines() == [
        "20 files compared: equal, field by field"
    ]
    # The projector resumes where the replay stopped.
    late = new_file_id()
    await publish(publisher, late, uploaded(), processing(), failed())
    await wait_for(client, late, "failed")


async def test_one_that_is_stopped_by_ctrl_c_says_how_it_goes_on() -> None:
    connected = asyncio.Event()
    silent = await asyncio.start_server(lambda *_: connected.set(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.status.replay", "--jobs", "3"),
            env={**os.environ, "WAYBILL_KAFKA": f"127.0.0.1:{port}"},
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        async with asyncio.timeout(30):
            await connected.wait()
            os.killpg(command.pid, signal.SIGINT)  # As a terminal does.
            _, error = await command.communicate()
    assert error.decode() == "replay stopped. Run the same command again to resume.\n"
    assert command.returncode == 130


async def test_several_processes_give_the_documents_that_one_gives(
    publisher: Publisher, status_settings: StatusSettings, store: FileStore
) -> None:
    await processed_files(publisher, 20)
    await replay(status_settings)
    before = [status async for status in store.scan()]
    await store.drop()
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.status.replay", "--jobs", "3"),
        env={
            **os.environ,
            "WAYBILL_KAFKA": status_settings.kafka,
            "WAYBILL_MONGODB": status_settings.mongodb,
            "WAYBILL_DATABASE": status_settings.database,
            "WAYBILL_TOPIC_PREFIX": status_settings.topic_prefix,
        },
    )
    async with asyncio.timeout(30):
        assert await command.wait() == 0
    assert len(before) == 20
    assert [status async for status in store.scan()] == before


async def test_what_has_drifted_is_reported_and_left_alone_and_then_mended(
    publisher: Publisher, status_settings: StatusSettings, store: FileStore
) -> None:
    forged, removed = await processed_files(publisher, 2)
    await replay(status_settings)
    before = [status async for status in store.scan()]
    read, gone = await store.get(forged), await store.get(removed)
    assert read is not None
    assert gone is not None
    unknown = read.model_copy(update={"file_id": new_file_id()})
    await store.save([(read, read.model_copy(update={"name": "forged.pdf"})), (None, unknown)])
    await store.remove([gone])

    found = await replay(status_settings, verify_only=True)
    assert found.named == {
        forged: "differs in name",
        removed: "missing from the live collection",
        unknown.file_id: "live, but not in the log",
    }
    assert found.lines()[0] == "3 files compared: 3 differ"
    assert await store.get(removed) is None

    assert (await replay(status_settings)).named == found.named
    assert [status async for status in store.scan()] == before


async def test_a_replay_that_was_killed_goes_on_where_it_stopped(
    publisher: Publisher,
    status_settings: StatusSettings,
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await processed_files(publisher, 10)
    monkeypatch.setattr(offset_ranges, "BLOCK", 3)
    note = Checkpoints.passed
    noted = 0

    async def noted_twice(self: Checkpoints, *arguments: Any) -> None:
        nonlocal noted
        noted += 1
        if noted > 2:
            raise KilledError
        await note(self, *arguments)

    monkeypatch.setattr(Checkpoints, "passed", noted_twice)
    with pytest.raises(KilledError):
        await replay(status_settings)
    monkeypatch.setattr(Checkpoints, "passed", note)

    advances: list[Advance] = []
    assert (await replay(status_settings, on_advance=advances.append)).files == 10
    assert 0 < advances[0].resumed < advances[0].total
    assert advances[-1].done == advances[-1].total == 40
    assert (await replay(status_settings, verify_only=True)).files == 0
    assert {status.status async for status in store.scan()} == {FileState.COMPLETED}


async def test_the_past_is_shown_in_a_collection_of_its_own(
    publisher: Publisher, status_settings: StatusSettings
) -> None:
    file_id, later = new_file_id(), new_file_id()
    await publish(publisher, file_id, uploaded(), processing())
    await asyncio.sleep(0.05)
    then = utc_now()
    await asyncio.sleep(0.05)
    await publish(publisher, file_id, completed())
    await publish(publisher, later, uploaded())
    past = FileStore(
        status_settings, collection=await rebuild_as_of(status_settings, "noon", until=then)
    )
    assert [(each.file_id, each.status) async for each in past.scan()] == [
        (file_id, FileState.PROCESSING)
    ]
    past.close()


async def test_readers_see_no_file_missing_and_no_step_back_while_a_replay_mends(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    store: FileStore,
) -> None:
    ids = await processed_files(publisher, 30)
    async with asyncio.timeout(20):
        while [status.status async for status in store.scan()] != [FileState.COMPLETED] * len(ids):
            await asyncio.sleep(0.05)
    for status in [status async for status in store.scan()]:
        await store.save([(status, status.model_copy(update={"name": "forged.pdf"}))])
    seen: dict[str, int] = {}
    done = asyncio.Event()

    async def upload() -> None:
        while not done.is_set():
            file_id = new_file_id()
            await publish(publisher, file_id, uploaded())
            ids.append(file_id)
            await publish(publisher, file_id, processing(), progressed(), completed())

    async def read() -> None:
        while not done.is_set():
            for file_id in list(ids):
                answer = await client.get(status_path(file_id))
                assert answer.status_code == 200, answer.text
                now = ORDER.index(answer.json()["status"])
                assert now >= seen.get(file_id, 0)
                seen[file_id] = now

    async with asyncio.TaskGroup() as group:
        for act in (upload, read, read):
            group.create_task(act())
        drift = await replay(status_settings)
        done.set()
    assert drift.files >= 30
    assert len(ids) > 30
    async with asyncio.timeout(20):
        while (await replay(status_settings, verify_only=True)).files:
            await asyncio.sleep(0.1)
    assert {status.name async for status in store.scan()} == {"report.pdf"}

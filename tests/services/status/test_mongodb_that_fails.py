"""A MongoDB that is away, or changes its primary, costs the projector time and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from services.status.projection.projection import FileState
from services.status.projector import Projector
from services.status.store.store import FileStore
from shared.events.events import StatusEvent, new_file_id
from shared.settings import Settings
from tests.services.status.records import records
from tests.support.builders import completed, processing, uploaded
from waybill.local.mongodb import start_mongodb, wait_for_mongodb
from waybill.local.process import Child


class ReplicaSet:
    """A replica set of one member."""

    def __init__(self, folder: Path) -> None:
        child, self._address = start_mongodb(folder / "data", folder, "--replSet", "one")
        self.child: Child = child
        self.uri = f"{self._address}/?replicaSet=one&directConnection=false"
        wait_for_mongodb(child, self._address)
        member = {"_id": 0, "host": self._address.removeprefix("mongodb://")}
        direct = MongoClient[dict[str, Any]](self._address, directConnection=True)
        soon = {"electionTimeoutMillis": 1000}
        initial = {"_id": "one", "members": [member], "settings": soon}
        direct.admin.command("replSetInitiate", initial)
        direct.close()
        self._client = MongoClient[dict[str, Any]](self.uri)
        self._client.admin.command("ping")

    def kill(self) -> None:
        """End the member as a power cut would."""
        self.child.finish(time.monotonic())

    def start_again(self) -> None:
        """Bring it back where it was."""
        self.child = self.child.again()
        wait_for_mongodb(self.child, self._address)

    def step_down(self) -> None:
        """Have no primary for two seconds."""
        with suppress(AutoReconnect):
            self._client.admin.command("replSetStepDown", 2, force=True)

    def stop(self) -> None:
        self._client.close()
        self.child.terminate()
        self.child.finish(time.monotonic() + 10)


@pytest.fixture
def replica_set(tmp_path: Path) -> Iterator[ReplicaSet]:
    replica_set = ReplicaSet(tmp_path)
    yield replica_set
    replica_set.stop()


@pytest.fixture
async def store(settings: Settings, replica_set: ReplicaSet) -> AsyncIterator[FileStore]:
    store = FileStore(settings.model_copy(update={"mongodb": replica_set.uri}))
    await store.prepare()
    yield store
    store.close()


STORY: tuple[StatusEvent, ...] = (uploaded(), processing(), completed())


async def test_the_projector_waits_for_a_mongodb_that_is_away(
    replica_set: ReplicaSet, store: FileStore
) -> None:
    file_id = new_file_id()
    projector = Projector(store)
    await projector.project(records(file_id, *STORY[:2]))
    replica_set.kill()
    projecting = asyncio.create_task(projector.project(records(file_id, STORY[2], first=2)))
    await asyncio.sleep(2)
    assert not projecting.done()
    await asyncio.to_thread(replica_set.start_again)
    async with asyncio.timeout(30):
        await projecting
    found = await store.get(file_id)
    assert found is not None
    assert found.status is FileState.COMPLETED
    assert len(found.history) == len(STORY)


async def test_a_primary_that_steps_down_in_mid_work_loses_no_event(
    replica_set: ReplicaSet, store: FileStore
) -> None:
    ids = [new_file_id() for _ in range(50)]
    projector = Projector(store)

    async def project() -> None:
        for number, event in enumerate(STORY):
            for file_id in ids:
                await projector.project(records(file_id, event, first=number))

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        group.create_task(project())
        await asyncio.sleep(0.1)
        await asyncio.to_thread(replica_set.step_down)
    found = await store.get_many(ids)
    assert {each.status for each in found.values()} == {FileState.COMPLETED}
    assert {len(each.history) for each in found.values()} == {len(STORY)}
    assert len(found) == len(ids)


async def test_the_files_are_counted_right_after_mongodb_was_killed(
    settings: Settings, tmp_path: Path
) -> None:
    child, address = start_mongodb(tmp_path / "data", tmp_path)
    wait_for_mongodb(child, address)
    store = FileStore(settings.model_copy(update={"mongodb": address}))
    try:
        await store.prepare()
        assert (await store.counts())[FileState.COMPLETED] == 0
        for _ in range(3):
            await Projector(store).project(records(new_file_id(), *STORY))
        assert (await store.counts())[FileState.COMPLETED] == 3
        child.finish(time.monotonic())  # SIGKILL: it forgets how many documents it had.
        child = child.again()
        wait_for_mongodb(child, address)
        assert (await store.counts())[FileState.COMPLETED] == 3
    finally:
        store.close()
        child.finish(time.monotonic())

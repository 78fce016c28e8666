"""The projector folds batches of records into a real MongoDB."""

import asyncio

import pytest
from aiokafka.errors import KafkaError

from services.status.projection import State, fold
from services.status.projector import Projector
from services.status.store import FileStore
from shared.events import new_file_id
from shared.publishing import Publisher, make_broker
from shared.settings import Settings
from tests.services.status.records import records
from tests.support.builders import about, completed, processing, progressed, uploaded


async def test_what_another_projector_has_changed_meanwhile_is_not_overwritten(
    store: FileStore,
) -> None:
    file_id = new_file_id()
    mine, others = Projector(store), Projector(store)
    await mine.project(records(file_id, uploaded()))
    await others.project(records(file_id, processing(), first=1))
    await mine.project(records(file_id, completed(), first=2))
    events = [about(file_id, event) for event in (uploaded(), processing(), completed())]
    expected = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert await store.get(file_id) == expected


async def test_a_document_that_was_removed_by_hand_comes_back_with_the_next_event(
    store: FileStore,
) -> None:
    file_id = new_file_id()
    projector = Projector(store)
    await projector.project(records(file_id, uploaded(), processing()))
    await store.drop()
    await projector.project(records(file_id, progressed(), first=2))
    found = await store.get(file_id)
    assert found is not None
    assert found.status is State.PROCESSING


async def test_the_end_of_its_consumer_is_told(
    store: FileStore, publisher: Publisher, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make_broker(settings, client_id="test")
    projector = Projector(store, publisher)
    projector.subscribe(broker, settings)

    async def fail() -> None:
        raise RuntimeError("something that nobody foresaw")

    await broker.start()
    try:
        watching = asyncio.create_task(projector.watch())
        await projector.project(records(new_file_id(), uploaded()))
        assert not watching.done()
        coordinator = projector._subscriber.consumer._coordinator
        monkeypatch.setattr(coordinator, "ensure_coordinator_known", fail)
        coordinator.request_rejoin()
        with pytest.raises(KafkaError, match="nobody foresaw"):
            async with asyncio.timeout(20):
                await watching
    finally:
        await broker.stop()

"""The projector folds batches of records into a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest

from services.status.projection.projection import FileState, Status, fold
from services.status.projector import ConsumingEndedError, Projector
from services.status.store.store import FileStore
from shared.events.events import new_file_id
from shared.events.topics import EVENT_TOPICS
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.records import records
from tests.support.builders import about, completed, processing, progressed, uploaded
from tests.support.loops import one_run


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
    assert found.status is FileState.PROCESSING


@asynccontextmanager
async def running(projector: Projector, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A projector to which Kafka brings events for the time of a block."""
    await projector.start(settings)
    assert projector._subscriber.consumer.assignment()
    task = asyncio.create_task(projector.watch(one_run()))
    try:
        yield task
    finally:
        task.cancel()
        await projector.stop()


async def test_the_end_of_its_consumer_is_told(
    store: FileStore, publisher: Publisher, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector = Projector(store, publisher)

    async def fail() -> None:
        raise RuntimeError("something that nobody foresaw")

    event = about(new_file_id(), uploaded())
    async with running(projector, settings) as task, asyncio.timeout(20):
        await publisher.publish(event)
        while await store.get(event.file_id) is None:
            await asyncio.sleep(0.01)
        assert not task.done()
        coordinator = projector._subscriber.consumer._coordinator
        monkeypatch.setattr(coordinator, "ensure_coordinator_known", fail)
        coordinator.request_rejoin()
        with pytest.raises(KafkaError, match="nobody foresaw"):
            await task


@pytest.mark.parametrize("who", ["aiokafka", "FastStream"])
async def test_a_consumer_that_is_cancelled_from_within_is_an_error(
    who: str, store: FileStore, publisher: Publisher, settings: Settings
) -> None:
    projector = Projector(store, publisher)
    async with running(projector, settings) as task, asyncio.timeout(20):
        subscriber = projector._subscriber
        if who == "aiokafka":
            subscriber.consumer._coordinator._coordination_task.cancel()
        else:
            for consuming in subscriber.tasks:
                consuming.cancel()
        with pytest.raises(ConsumingEndedError):
            await task


async def test_while_it_folds_no_fetch_leaves_out_the_partitions_that_are_busy(
    store: FileStore, publisher: Publisher, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = about(new_file_id(), uploaded()), about(new_file_id(), uploaded())
    fetched: list[int] = []
    send, save = AIOKafkaClient.send, store.save

    async def note_fetches(
        client: AIOKafkaClient, node: int, request: object, **options: object
    ) -> object:
        if isinstance(request, FetchRequest):
            fetched.append(sum(len(partitions) for _, partitions in request.topics))
        return await send(client, node, request, **options)

    async def save_slowly(changes: Sequence[tuple[Status | None, Status]]) -> set[str]:
        if not fetched:
            monkeypatch.setattr(AIOKafkaClient, "send", note_fetches)
            await publisher.publish(second)  # Fetched, and left lying until this one is stored.
            await asyncio.sleep(0.5)
        return await save(changes)

    monkeypatch.setattr(store, "save", save_slowly)
    async with running(Projector(store, publisher), settings):
        await publisher.publish(first)
        async with asyncio.timeout(20):
            while await store.get(second.file_id) is None:
                await asyncio.sleep(0.01)
    assert set(fetched) == {sum(topic.partitions for topic in EVENT_TOPICS)}

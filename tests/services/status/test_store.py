"""The store keeps statuses in a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.status.projection import State, Status, fold
from services.status.store import FileStore, Query
from shared.errors import MongoUnavailableError
from shared.events import StatusEvent, new_file_id
from shared.settings import Settings
from tests.support.builders import (
    about,
    completed,
    deleted,
    failed,
    processing,
    progressed,
    retrying,
    uploaded,
)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[FileStore]:
    store = FileStore(settings)
    await store.prepare()
    yield store
    store.close()


def status_of(file_id: str, *events: StatusEvent) -> Status:
    log = [(about(file_id, event), offset) for offset, event in enumerate(events)]
    status = fold(None, log)
    assert status is not None
    return status


async def test_a_status_comes_back_as_it_was_stored(store: FileStore) -> None:
    histories: list[list[StatusEvent]] = [
        [uploaded()],
        [uploaded(), processing(), progressed()],
        [uploaded(), processing(), retrying()],
        [uploaded(), processing(), completed()],
        [uploaded(), processing(), failed()],
        [processing()],
    ]
    statuses = [status_of(new_file_id(), *events) for events in histories]
    assert await store.save([(None, status) for status in statuses]) == set()
    for status in statuses:
        assert await store.get(status.file_id) == status
    assert [status async for status in store.scan()] == statuses


async def test_a_change_is_written_only_over_what_was_read(store: FileStore) -> None:
    file_id = new_file_id()
    first, second = status_of(file_id, uploaded()), status_of(file_id, uploaded(), processing())
    third = status_of(file_id, uploaded(), processing(), completed())
    assert await store.save([(None, first)]) == set()
    assert await store.save([(first, second)]) == set()
    assert await store.save([(first, third)]) == {file_id}
    assert await store.save([(None, third)]) == {file_id}
    assert await store.get(file_id) == second


async def test_writers_that_race_lose_nothing(store: FileStore) -> None:
    file_id = new_file_id()
    events: list[StatusEvent] = [uploaded(), processing(), retrying(), processing(2)]
    log = [(about(file_id, event), offset) for offset, event in enumerate(events)]

    async def write(event: tuple[StatusEvent, int]) -> None:
        while True:
            read = await store.get(file_id)
            new = fold(read, [event])
            assert new is not None
            if not await store.save([(read, new)]):
                return

    await asyncio.gather(*(write(event) for event in log))
    assert await store.get(file_id) == fold(None, log)


async def test_a_list_is_filtered_and_paged_newest_first(store: FileStore) -> None:
    statuses = []
    for number in range(7):
        events: list[StatusEvent] = [
            uploaded(
                name=f"Report {number}.pdf", owner=f"owner{number % 2}", labels={"n": str(number)}
            )
        ]
        if number >= 5:
            events += [processing(), completed()]
        statuses.append(status_of(new_file_id(), *events))
    statuses.append(status_of(new_file_id(), uploaded(), deleted()))
    await store.save([(None, status) for status in statuses])
    newest_first = [status.file_id for status in reversed(statuses[:7])]

    async def ids(query: Query, limit: int = 50, cursor: str | None = None) -> list[str]:
        page = await store.find(query, limit=limit, cursor=cursor)
        return [status.file_id for status in page.items]

    assert await ids(Query()) == newest_first
    assert await ids(Query(status=State.COMPLETED)) == newest_first[:2]
    assert await ids(Query(owner="owner1")) == newest_first[1::2]
    assert await ids(Query(label="n:3")) == [newest_first[3]]
    assert await ids(Query(name="rePORT 4.")) == [newest_first[2]]
    assert await ids(Query(name="report.4")) == []
    page = await store.find(Query(), limit=4, cursor=None)
    assert page.next_cursor is not None
    rest = await store.find(Query(), limit=4, cursor=page.next_cursor)
    assert [status.file_id for status in (*page.items, *rest.items)] == newest_first
    assert rest.next_cursor is None


async def test_a_mongodb_that_does_not_answer_is_a_clear_error(settings: Settings) -> None:
    away = FileStore(settings.model_copy(update={"mongodb": "mongodb://127.0.0.1:1"}))
    with pytest.raises(MongoUnavailableError, match="does not answer"):
        await away.get("x")
    away.close()

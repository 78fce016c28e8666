"""The store keeps statuses in a real MongoDB."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.status.projection.projection import FileState, Status, fold
from services.status.store.indexes import INDEXES
from services.status.store.query import ListCursor, Query, Sort
from services.status.store.store import FileStore
from shared.errors import MongoUnavailableError, TooWideSearchError
from shared.events.events import StatusEvent, new_file_id
from shared.events.facts import Result
from shared.settings import Settings
from tests.support.builders import (
    about,
    at,
    cancel_requested,
    completed,
    deleted,
    failed,
    processing,
    progressed,
    retrying,
    uploaded,
)


def status_of(file_id: str, *events: StatusEvent) -> Status:
    log = [(about(file_id, event), offset) for offset, event in enumerate(events)]
    status = fold(None, log)
    assert status is not None
    return status


async def test_the_indexes_of_an_earlier_version_give_way(settings: Settings) -> None:
    store = FileStore(settings)
    files = store._files
    for field in ("owner", "batch_id", "label_index"):
        await files.create_index([(field, 1), ("_id", -1)])
    for field in ("tenant", "shares.reader"):
        some = {field: {"$gt": ""}}
        await files.create_index([(field, 1), ("_id", -1)], partialFilterExpression=some)
    await store.prepare()
    await store.prepare()
    found = await files.index_information()
    store.close()
    assert {name for name, index in found.items() if index["key"][0][0] == "owner"} == {"by_owner"}
    assert len(found) == 1 + len(INDEXES)


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


async def test_what_users_name_is_written_as_it_is(store: FileStore) -> None:
    file_id = new_file_id()
    begin: list[StatusEvent] = [
        uploaded(name="$name", labels={"a.b": "$$ROOT", "c": "$set"}),
        processing(),
    ]
    first = status_of(file_id, *begin)
    result = Result(prefix="$x", statistics={"$a": "$b", "c.d": None, "": 1})
    end = completed()
    end = end.model_copy(update={"data": end.data.model_copy(update={"result": result})})
    second = status_of(file_id, *begin, end)
    assert await store.save([(None, first)]) == set()
    assert await store.save([(first, second)]) == set()
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


def made_at(file_id: str) -> datetime:
    """Return when an id was created, according to the id."""
    return datetime.fromtimestamp((UUID(file_id).int >> 80) / 1000, UTC)


async def ids(store: FileStore, query: Query, **options: Any) -> list[str]:
    """Return the ids on all pages of a list, two files per page."""
    found: list[str] = []
    after = None
    while True:
        page = await store.find(query, limit=2, after=after, **options)
        found += [status.file_id for status in page.items]
        if page.next is None:
            return found
        after = ListCursor.from_text(page.next.to_text())


async def test_a_list_is_filtered_and_paged_in_order(store: FileStore) -> None:
    statuses = []
    for number in range(7):
        events: list[StatusEvent] = [
            uploaded(
                name=f"Report {number}.pdf",
                owner=f"owner{number % 2}",
                labels={"n": str(number), "team": "a"},
            )
        ]
        if number >= 5:
            events += [processing(), completed()]
        statuses.append(status_of(new_file_id(), *events))
        await asyncio.sleep(0.002)  # Ids have a resolution of milliseconds.
    statuses.append(status_of(new_file_id(), uploaded(), deleted()))
    await store.save([(None, status) for status in statuses])
    oldest_first = [status.file_id for status in statuses[:7]]
    newest_first = oldest_first[::-1]

    assert await ids(store, Query()) == newest_first
    assert await ids(store, Query(), sort=Sort.OLDEST_FIRST) == oldest_first
    assert await ids(store, Query(status=frozenset({FileState.COMPLETED}))) == newest_first[:2]
    both = frozenset({FileState.COMPLETED, FileState.PENDING})
    assert await ids(store, Query(status=both)) == newest_first
    assert await ids(store, Query(owner="owner1")) == newest_first[1::2]
    assert await ids(store, Query(labels=frozenset({"n:3"}))) == [newest_first[3]]
    assert await ids(store, Query(labels=frozenset({"n:3", "team:a"}))) == [newest_first[3]]
    assert await ids(store, Query(labels=frozenset({"n:3", "team:b"}))) == []
    assert await ids(store, Query(name="rePORT 4.")) == [newest_first[2]]
    assert await ids(store, Query(name="report.4")) == []
    since, before = (made_at(oldest_first[number]) for number in (2, 5))
    assert await ids(store, Query(created_since=since)) == newest_first[:5]
    assert await ids(store, Query(created_since=since, created_before=before)) == newest_first[2:5]


async def test_a_list_in_the_order_of_changes_keeps_those_of_one_moment_apart(
    store: FileStore,
) -> None:
    moments = [3, 1, 1, 1, 2]
    statuses = [status_of(new_file_id(), uploaded(time=moment)) for moment in moments]
    unknown_yet = status_of(new_file_id(), cancel_requested())
    await store.save([(None, status) for status in (*statuses, unknown_yet)])
    expected = [statuses[number].file_id for number in (1, 2, 3, 4, 0)]
    assert await ids(store, Query(), sort=Sort.EARLIEST_CHANGE_FIRST) == expected
    assert await ids(store, Query(), sort=Sort.LATEST_CHANGE_FIRST) == expected[::-1]
    later = Query(updated_since=at(2), status=frozenset({FileState.PENDING}))
    assert await ids(store, later, sort=Sort.EARLIEST_CHANGE_FIRST) == expected[3:]
    assert await ids(store, Query(updated_before=at(2))) == expected[2::-1]


async def test_a_page_neither_repeats_nor_leaves_out_a_file_while_others_come_and_go(
    store: FileStore,
) -> None:
    statuses = [status_of(new_file_id(), uploaded()) for _ in range(6)]
    await store.save([(None, status) for status in statuses])
    first = await store.find(Query(), limit=3, after=None)
    gone = statuses[3]
    await store.save([(gone, status_of(gone.file_id, uploaded(), deleted()))])
    await store.save([(None, status_of(new_file_id(), uploaded()))])
    rest = await store.find(Query(), limit=3, after=first.next)
    seen = [status.file_id for status in (*first.items, *rest.items)]
    assert seen == [status.file_id for status in reversed(statuses)]
    assert rest.next is None


async def test_a_search_that_takes_too_long_is_given_up_and_says_so(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = status_of(new_file_id(), uploaded())
    copies = [some.model_copy(update={"file_id": new_file_id()}) for _ in range(5000)]
    await store.save([(None, copy) for copy in copies])
    monkeypatch.setattr("services.status.store.store.FIND_WITHIN_MS", 1)
    with pytest.raises(TooWideSearchError, match="narrow it"):
        await store.find(Query(name="z"), limit=500, after=None)  # Too short for the index.


async def test_a_mongodb_that_does_not_answer_is_a_clear_error(settings: Settings) -> None:
    away = FileStore(settings.model_copy(update={"mongodb": "mongodb://127.0.0.1:1"}))
    with pytest.raises(MongoUnavailableError, match="MongoDB is unavailable"):
        await away.get("x")
    away.close()


@pytest.mark.parametrize("sort", Sort)
async def test_a_page_of_documents_that_cannot_be_read_ends_no_list(
    store: FileStore, sort: Sort
) -> None:
    ids = [new_file_id() for _ in range(5)]
    await store.save([(None, status_of(file_id, uploaded())) for file_id in ids])
    broken = ids[1:4]
    await store._files.update_many({"_id": {"$in": broken}}, {"$set": {"size": "large"}})
    for name in (None, "report"):
        found: list[str] = []
        page = await store.find(Query(name=name), sort=sort, limit=1, after=None)
        for _ in range(5):
            found += [each.file_id for each in page.items]
            if page.next is None:
                break
            after = ListCursor.from_text(page.next.to_text())
            page = await store.find(Query(name=name), sort=sort, limit=1, after=after)
        assert sorted(found) == [ids[0], ids[4]]


async def test_a_document_that_cannot_be_read_keeps_no_other_file_from_being_cancelled(
    store: FileStore,
) -> None:
    ids = [new_file_id() for _ in range(3)]
    asked = [status_of(file_id, uploaded(), cancel_requested()) for file_id in ids[:2]]
    gone = status_of(ids[2], uploaded(), cancel_requested(), deleted())
    await store.save([(None, status) for status in [*asked, gone]])
    await store._files.update_one({"_id": ids[0]}, {"$set": {"size": "large"}})
    found = await store.to_cancel(FileState.PENDING, 10)
    assert [(each.file_id, each.cancel_reason) for each in found] == [(ids[1], "asked for")]

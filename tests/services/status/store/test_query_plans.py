"""No query of the store scans the whole collection or sorts in memory.

MongoDB's profiler records every operation on the database with its actual plan, so the test also
covers queries that it does not list.
"""

from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase

from services.status.projection.projection import FileState, Status, fold
from services.status.store.access import EVERYTHING, Visibility
from services.status.store.query import ListCursor, Query, Sort
from services.status.store.store import FileStore
from shared.events.events import StatusEvent, new_file_id
from shared.settings import Settings
from tests.support.builders import about, at, completed, processing, shared, uploaded

FILES = 60

FILTERS: dict[str, Any] = {
    "status": frozenset({FileState.COMPLETED}),
    "visible_to": Visibility(tenant="acme"),
    "owner": "owner1",
    "batch_id": "batch1",
    "labels": frozenset({"n:1"}),
    "name": "report",
    "created_since": datetime(2026, 1, 1, tzinfo=UTC),
    "created_before": datetime(2100, 1, 1, tzinfo=UTC),
    "updated_since": at(0),
    "updated_before": at(3600),
}
"""A value of every filter; one that is added to `Query` must be added here, or the test fails."""


def a_file(number: int) -> Status:
    file_id = new_file_id()
    facts = uploaded(
        tenant="acme",
        owner=f"owner{number % 3}",
        batch_id=f"batch{number % 2}",
        labels={"n": str(number % 4)},
    )
    events: list[StatusEvent] = [facts, processing(), completed()]
    events = events[: 1 + number % 3]
    if number % 5 == 0:
        events.append(shared("owner1"))
    status = fold(None, [(about(file_id, event), place) for place, event in enumerate(events)])
    assert status is not None
    return status


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[AsyncIOMotorDatabase[dict[str, Any]]]:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongodb)
    await client[settings.database].create_collection("system.profile", capped=True, size=1 << 26)
    yield client[settings.database]
    client.close()


async def bad_plans(database: AsyncIOMotorDatabase[dict[str, Any]]) -> list[str]:
    """Return operations on the files that used no index or sorted in memory."""
    seen = database["system.profile"].find({"ns": f"{database.name}.files"})
    return [
        f"{operation['op']} {operation['planSummary']} {operation['command']}"
        async for operation in seen
        if "COLLSCAN" in operation.get("planSummary", "") or operation.get("hasSortStage")
    ]


async def test_every_query_walks_an_index_in_order(
    store: FileStore, database: AsyncIOMotorDatabase[dict[str, Any]]
) -> None:
    files = [a_file(number) for number in range(FILES)]
    await database.command("profile", 2)
    await store.save([(None, status) for status in files])
    await store.save([(files[0], files[0].model_copy(update={"phase": "other"}))])
    await store.get(files[0].file_id)
    await store.get_many([status.file_id for status in files])
    assert len([status async for status in store.scan()]) == FILES
    everybody = (
        EVERYTHING,
        Visibility(tenant="acme"),
        Visibility(tenant="acme", owner="owner1"),
        Visibility(tenant="acme", owner="owner1").own,
    )
    for seen in everybody:
        await store.counts(seen)
        await store.oldest(FileState.PENDING, seen)
    names = [field.name for field in fields(Query)]
    several = [chosen for count in (0, 1, 2, len(names)) for chosen in combinations(names, count)]
    for sort in Sort:
        for chosen in several:
            asked = {name: FILTERS[name] for name in chosen}
            for seen in everybody if "visible_to" in chosen else everybody[:1]:
                query = Query(**{**asked, "visible_to": seen})
                page = await store.find(query, sort=sort, limit=2, after=None)
                after = page.next or _behind(files[FILES // 2], sort)
                await store.find(query, sort=sort, limit=2, after=after)
    await database.command("profile", 0)
    mine = Query(visible_to=Visibility(tenant="acme", owner="owner1"))
    for sort in Sort:
        listed = await store.find(mine, sort=sort, limit=FILES, after=None)
        ids = {status.file_id for number, status in enumerate(files) if number % 3 == 1}
        lent = {status.file_id for status in files if status.shares}
        assert {status.file_id for status in listed.items} == ids | lent
    queries = await database["system.profile"].count_documents({"op": "query"})
    assert queries >= 2 * len(Sort) * len(several)
    assert await bad_plans(database) == []


async def test_a_query_without_an_index_would_be_noticed(
    store: FileStore, database: AsyncIOMotorDatabase[dict[str, Any]]
) -> None:
    await store.save([(None, a_file(number)) for number in range(FILES)])
    await database.command("profile", 2)
    await database["files"].find({"size": 1234}).to_list(None)
    await database["files"].find({"_id": {"$gt": ""}}).sort("size", 1).to_list(None)
    await database.command("profile", 0)
    scan, sort = await bad_plans(database)
    assert "COLLSCAN" in scan
    assert "'sort': {'size': 1}" in sort


def _behind(status: Status, sort: Sort) -> ListCursor:
    return ListCursor(sort, status.file_id, status.updated_at if sort.is_by_change else None)

"""Counts, lags and queue positions, with a real Kafka and a real MongoDB."""

import asyncio
from typing import Any

import httpx

from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import completed, deleted, failed, processing, retrying, uploaded


async def stats_with(client: httpx.AsyncClient, **files: int) -> dict[str, Any]:
    """Return the statistics once that many files have each status."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.get("/api/stats")
            if answer.is_success:
                stats: dict[str, Any] = answer.json()
                if stats["files"] and all(
                    stats["files"][status] == count for status, count in files.items()
                ):
                    return stats
            await asyncio.sleep(0.1)


async def test_the_statistics_tell_counts_ages_and_who_is_behind(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    first = new_file_id()
    await publish(publisher, first, uploaded())
    await publish(publisher, new_file_id(), uploaded())
    await publish(publisher, new_file_id(), uploaded(), processing())
    await publish(publisher, new_file_id(), uploaded(), processing(), completed())
    await publish(publisher, new_file_id(), uploaded(), processing(), failed())
    stats = await stats_with(client, pending=2, processing=1, completed=1, failed=1, cancelled=0)
    assert stats["queue"]["length"] == 2
    assert stats["oldest"]["pending"]["file_id"] == first
    assert 0 <= stats["oldest"]["pending"]["age_seconds"] < 60
    assert set(stats["oldest"]) == {"pending", "processing"}
    # No processor is running here.
    assert stats["lag"]["processor"]["file.uploaded"] == 5
    assert stats["lag"]["processor"]["file.retry.5s"] == 0
    assert stats["lag"]["projector"].keys() == {
        "file.uploaded",
        "file.lifecycle",
        "file.progress",
        "file.access",
        "file.control",
    }
    metrics = (await client.get("/metrics")).text
    assert 'waybill_files{status="pending"} 2.0' in metrics
    assert 'waybill_lag_records{group="processor",topic="file.uploaded"} 5.0' in metrics


async def test_a_file_that_waits_is_told_its_place_and_no_other_is(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    waiting, working, again = (new_file_id() for _ in range(3))
    await publish(publisher, waiting, uploaded())
    await publish(publisher, working, uploaded(), processing())
    await publish(publisher, again, uploaded(), processing(), retrying())
    await wait_for(client, again, "pending")
    await stats_with(client, pending=2, processing=1)
    answer = await client.get(status_path(waiting))
    queue = answer.json()["queue"]
    assert 1 <= queue["position"] <= queue["length"]
    # The place changes without the file, so the tag is weak.
    assert answer.headers["etag"].startswith('W/"')
    some = await client.get(f"/api/files/{waiting}", params={"fields": "queue"})
    assert some.json().keys() == {"file_id", "queue"}
    assert some.json()["queue"]["length"] == queue["length"]
    for other in (working, again):
        answer = await client.get(status_path(other))
        assert answer.json()["queue"] is None
        assert answer.headers["etag"].startswith('"')


async def test_deleted_files_are_not_counted(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    for events in (
        [uploaded()],
        [uploaded(), processing(), completed()],
        [uploaded(), processing(), failed()],
    ):
        await publish(publisher, new_file_id(), *events)
        await publish(publisher, new_file_id(), *events, deleted())
        await publish(publisher, new_file_id(), deleted(), *events)
    stats = await stats_with(client, pending=1, processing=0, completed=1, failed=1, cancelled=0)
    assert sum(stats["files"].values()) == 3

"""Commands are facts in Kafka before they are answered, and say why they are refused."""

import asyncio

import httpx
import pytest

from shared.events import FileCancelRequested, StatusEvent, new_file_id
from shared.messaging import Publisher
from shared.settings import Settings
from shared.topics import CONTROL
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import (
    cancelled,
    completed,
    deleted,
    failed,
    processing,
    requeued,
    retrying,
    uploaded,
)
from tests.support.consuming import consume


@pytest.mark.parametrize(
    ("events", "status", "run"),
    [
        ([uploaded()], "pending", 1),
        ([uploaded(), processing(), retrying()], "pending", 1),
        ([uploaded(), processing(), failed(), requeued(), processing(run=2)], "processing", 2),
    ],
    ids=["queued", "waiting to retry", "processing in its second run"],
)
async def test_a_file_under_way_is_cancelled_in_its_present_run(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    events: list[StatusEvent],
    status: str,
    run: int,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, *events)
    await wait_for(client, file_id, status)
    answer = await client.post(f"/api/files/{file_id}/cancel", params={"reason": "not needed"})
    assert answer.status_code == 202, answer.text
    assert (answer.json()["file_id"], answer.json()["status"]) == (file_id, status)
    assert answer.headers["location"] == status_path(file_id)
    again = await client.post(f"/api/files/{file_id}/cancel", params={"reason": "not needed"})
    assert again.status_code == 202
    first, second = await consume(settings, CONTROL, 2)
    assert isinstance(first, FileCancelRequested)
    assert (first.file_id, first.data.run, first.data.reason) == (file_id, run, "not needed")
    assert first.id == second.id


@pytest.mark.parametrize("outcome", [completed(), failed(), cancelled()], ids=lambda e: e.type)
async def test_a_file_that_has_ended_is_not_cancelled_and_told_how_it_ended(
    client: httpx.AsyncClient, publisher: Publisher, outcome: StatusEvent
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), outcome)
    status = outcome.type.removeprefix("file.")
    await wait_for(client, file_id, status)
    refused = await client.post(f"/api/files/{file_id}/cancel")
    assert refused.status_code == 409
    assert refused.json()["code"] == "not_cancellable"
    assert refused.json()["file_status"] == status
    assert status in refused.json()["detail"]


async def test_a_command_about_an_unknown_or_a_deleted_file_says_so(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    unknown = await client.post("/api/files/nope/cancel")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_file")
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), deleted())
    async with asyncio.timeout(10):
        while (await client.get(status_path(file_id))).status_code != 410:
            await asyncio.sleep(0.05)
    gone = await client.post(f"/api/files/{file_id}/cancel")
    assert (gone.status_code, gone.json()["code"]) == (410, "deleted")


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [(None, True), ("own", True), ("https://elsewhere.example", False), ("null", False)],
)
async def test_a_command_of_another_sites_page_is_refused(
    client: httpx.AsyncClient, publisher: Publisher, origin: str | None, accepted: bool
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    await wait_for(client, file_id, "pending")
    own = str(client.base_url).rstrip("/")
    headers = {} if origin is None else {"Origin": own if origin == "own" else origin}
    answer = await client.post(f"/api/files/{file_id}/cancel", headers=headers)
    if accepted:
        assert answer.status_code == 202
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")

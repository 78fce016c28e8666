"""Bulk commands return a separate result for each file, and a rejected file affects no other."""

import asyncio
from typing import Any

import httpx
import pytest

from services.status.app import create_app
from services.status.settings import StatusSettings
from shared.events.events import StatusEvent, new_file_id
from shared.events.topics import CONTROL
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish, status_path, wait_for
from tests.support.builders import completed, deleted, failed, processing, uploaded
from tests.support.consuming import consume
from tests.support.kafka_line import line_to
from tests.support.serving import served, until_ready


async def put_in(
    client: httpx.AsyncClient, publisher: Publisher, *stories: list[StatusEvent]
) -> list[str]:
    """Publish files with these events; return once the lists contain all of them."""
    ids = [new_file_id() for _ in stories]
    for file_id, story in zip(ids, stories, strict=True):
        await publish(publisher, file_id, *story)
    wanted = [len(story) for story in stories]
    async with asyncio.timeout(20):
        while await lines(client, ids) != wanted or not await are_listed(client, ids):
            await asyncio.sleep(0.05)
    return ids


async def are_listed(client: httpx.AsyncClient, ids: list[str]) -> bool:
    """Return True if the lists contain the current states of these files."""
    found = (await client.get("/api/files")).json()["items"]
    listed = {each["file_id"]: each["position"] for each in found}
    states = [(await client.get(status_path(each))).json() for each in ids]
    return all(listed.get(each["file_id"]) == each["position"] for each in states)


async def lines(client: httpx.AsyncClient, ids: list[str]) -> list[int]:
    """Return how many events of each listed file are known."""
    found = (await client.get("/api/files")).json()["items"]
    known = {each["file_id"]: each for each in found}
    answers = [await client.get(f"/api/files/{each}/events") for each in ids if each in known]
    return [len(answer.json()["items"]) for answer in answers]


async def bulk(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/api/files/bulk", json=asked)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_the_files_of_a_filter_are_cancelled_that_can_be(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    waiting, running, _, _ = await put_in(
        client,
        publisher,
        [uploaded(labels={"kind": "scan"})],
        [uploaded(labels={"kind": "scan"}), processing()],
        [uploaded(labels={"kind": "scan"}), completed()],
        [uploaded(labels={"kind": "letter"})],
    )
    result = await bulk(client, action="cancel", files={"label": ["kind:scan"]}, reason="a mistake")
    assert (result["accepted"], result["refused"], result["more"]) == (2, 0, False)
    assert [each["file_id"] for each in result["items"]] == [running, waiting]
    requests = await consume(settings, CONTROL, 2)
    assert {request.file_id for request in requests} == {waiting, running}


async def test_what_cannot_be_done_with_a_file_is_told_of_that_file_alone(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    broken, done, gone = [new_file_id() for _ in range(3)]
    await publish(publisher, broken, uploaded(), failed())
    await publish(publisher, done, uploaded(), completed())
    await publish(publisher, gone, uploaded(), deleted())
    await wait_for(client, broken, "failed")
    await wait_for(client, done, "completed")
    async with asyncio.timeout(20):
        while (await client.get(status_path(gone))).status_code != 410:
            await asyncio.sleep(0.05)
    result = await bulk(client, action="retry", files={"ids": ["nope", done, gone, broken, broken]})
    assert (result["accepted"], result["refused"]) == (1, 3)
    assert [(each["file_id"], each["accepted"], each["code"]) for each in result["items"]] == [
        ("nope", False, "unknown_file"),
        (done, False, "not_retryable"),
        (gone, False, "deleted"),
        (broken, True, None),
    ]
    assert (await client.get(status_path(broken))).json()["run"] == 2
    again = await bulk(client, action="retry", files={"ids": [done]}, force=True)
    assert again["accepted"] == 1


async def test_more_files_than_the_limit_are_deleted_by_asking_again(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    story: list[StatusEvent] = [uploaded(owner="ann"), completed()]
    await put_in(client, publisher, story, story, story, [uploaded(owner="bob"), completed()])
    first = await bulk(client, action="delete", files={"owner": "ann"}, limit=2)
    assert (first["accepted"], first["more"]) == (2, True)
    async with asyncio.timeout(20):  # Lists lag slightly.
        while len((await client.get("/api/files")).json()["items"]) > 2:
            await asyncio.sleep(0.05)
    second = await bulk(client, action="delete", files={"owner": "ann"}, limit=2)
    assert (second["accepted"], second["more"]) == (1, False)


@pytest.mark.parametrize(
    "asked",
    [
        {"action": "cancel"},
        {"action": "cancel", "files": {"ids": ["one"], "owner": "ann"}},
        {"action": "burn", "files": {"ids": ["one"]}},
        {"action": "cancel", "files": {"ids": ["one"] * 1001}},
        {"action": "cancel", "files": {"owner": "ann"}, "limit": 1001},
        {"action": "cancel", "files": {"lable": ["a:b"]}},
        {"action": "cancel", "files": {}},
    ],
    ids=["nothing", "both", "unknown action", "too many", "limit", "unknown member", "no filter"],
)
async def test_a_request_that_does_not_say_what_is_wanted_is_refused(
    client: httpx.AsyncClient, asked: dict[str, Any]
) -> None:
    answer = await client.post("/api/files/bulk", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")


async def test_while_kafka_is_away_what_was_not_tried_is_told_and_soon(
    status_settings: StatusSettings,
    publisher: Publisher,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.status.app.COMMAND_TIMEOUT", 1.0)
    ids = [new_file_id() for _ in range(60)]
    for file_id in ids:
        await publish(publisher, file_id, uploaded())
    async with line_to(settings.kafka) as line:
        on_the_line = status_settings.model_copy(update={"kafka": line.address})
        async with served(create_app(on_the_line)) as client:
            await until_ready(client)
            await wait_for(client, ids[-1], "pending")
            await line.cut()
            async with asyncio.timeout(10):  # One by one: a minute.
                result = await bulk(client, action="cancel", files={"ids": ids})
    assert result["refused"] == len(ids)
    assert {each["code"] for each in result["items"]} == {"kafka_unavailable"}


async def test_a_batch_is_told_as_a_whole(client: httpx.AsyncClient, publisher: Publisher) -> None:
    batch = new_file_id()
    asking = asyncio.create_task(client.get(f"/api/batches/{batch}"))
    await put_in(
        client,
        publisher,
        [uploaded(batch_id=batch)],
        [uploaded(batch_id=batch), processing()],
        [uploaded(batch_id=batch), completed()],
        [uploaded(batch_id="another"), completed()],
    )
    # The API waits for a batch that was just created, as for a file.
    assert (await asking).status_code == 200
    async with asyncio.timeout(20):  # It lags slightly.
        while (result := (await client.get(f"/api/batches/{batch}")).json())["percent"] == 0:
            await asyncio.sleep(0.05)
    assert (result["total"], result["percent"], result["finished"]) == (3, 33, False)
    assert result["files"] == {
        "pending": 1,
        "processing": 1,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
    }
    assert len((await client.get(result["files_url"])).json()["items"]) == 3
    unknown = await client.get("/api/batches/another%20one")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_batch")

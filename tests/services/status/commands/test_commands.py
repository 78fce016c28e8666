"""Commands are stored in Kafka before they are answered, and rejections state the reason."""

import asyncio

import httpx
import pytest

from services.status.app import create_app
from services.status.settings import StatusSettings
from shared.blobs.places import source_key
from shared.events.events import (
    FileCancelRequested,
    FileRequeued,
    FileUploaded,
    StatusEvent,
    new_file_id,
)
from shared.events.topics import CONTROL, UPLOADED
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish, status_path, wait_for, wait_for_history
from tests.support.builders import (
    cancelled,
    completed,
    deleted,
    failed,
    processing,
    requeued,
    uploaded,
)
from tests.support.consuming import consume, count
from tests.support.kafka_line import line_to
from tests.support.serving import served, until_ready


@pytest.mark.parametrize(
    ("events", "run"),
    [
        ([uploaded(), processing()], 1),
        ([uploaded(), processing(), failed(), requeued(), processing(run=2)], 2),
    ],
    ids=["processing", "processing in its second run"],
)
async def test_a_file_under_way_is_cancelled_in_its_present_run(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    events: list[StatusEvent],
    run: int,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, *events)
    await wait_for_history(client, file_id, len(events))
    answer = await client.post(f"/api/files/{file_id}/cancel", params={"reason": "not needed"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["file_id"], told["status"], told["phase"]) == (
        file_id,
        "processing",
        "cancelling",
    )
    assert answer.headers["location"] == status_path(file_id)
    again = await client.post(f"/api/files/{file_id}/cancel", params={"reason": "not needed"})
    assert again.status_code == 202
    first, second = await consume(settings, CONTROL, 2)
    assert isinstance(first, FileCancelRequested)
    assert (first.file_id, first.data.run, first.data.reason) == (file_id, run, "not needed")
    assert first.id == second.id
    async with asyncio.timeout(10):
        while (await client.get(status_path(file_id))).json()["phase"] != "cancelling":
            await asyncio.sleep(0.05)


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
    [
        (None, True),
        ("own", True),
        ("https://elsewhere.example", False),
        ("null", False),
        ("http://[", False),
    ],
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


@pytest.mark.parametrize(
    ("outcome", "force"),
    [(failed(), False), (cancelled(), False), (completed(), True)],
    ids=["failed", "cancelled", "completed, forced"],
)
async def test_a_file_that_has_ended_starts_a_new_run_with_all_its_facts(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    outcome: StatusEvent,
    force: bool,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(blob=source_key(file_id)), processing(), outcome)
    before = (await wait_for(client, file_id, outcome.type.removeprefix("file."))).json()
    answer = await client.post(
        f"/api/files/{file_id}/retry", params={"force": force, "reason": "fixed"}
    )
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == status_path(file_id)
    after = answer.json()
    assert (after["status"], after["run"], after["error"]) == ("pending", 2, None)
    assert [line["type"] for line in after["history"]] == [
        "file.uploaded",
        "file.processing",
        outcome.type,
        "file.requeued",
    ]
    assert after["history"][3]["message"] == "fixed"
    upload, requeue = await consume(settings, UPLOADED, 2)
    assert isinstance(upload, FileUploaded)
    assert isinstance(requeue, FileRequeued)
    # The topic is compacted: the new record replaces the first.
    copied = requeue.data.model_dump() | {"run": 1}
    assert copied.pop("reason") == "fixed"
    assert copied.pop("created_at") == upload.time
    assert copied == upload.data.model_dump()
    assert after["created_at"] == before["created_at"]


@pytest.mark.parametrize(
    ("last", "status", "why"),
    [(processing(), "processing", "cancel it first"), (completed(), "completed", "force=true")],
)
async def test_a_retry_that_makes_no_sense_is_refused_and_told_why(
    client: httpx.AsyncClient, publisher: Publisher, last: StatusEvent, status: str, why: str
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), last)
    await wait_for(client, file_id, status)
    refused = await client.post(f"/api/files/{file_id}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")
    assert refused.json()["file_status"] == status
    assert why in refused.json()["detail"]


async def test_retries_at_the_same_time_start_one_new_run(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), failed())
    await wait_for(client, file_id, "failed")
    path = f"/api/files/{file_id}/retry"
    answers = await asyncio.gather(*(client.post(path) for _ in range(5)))
    assert {(answer.status_code, answer.json()["run"]) for answer in answers} == {(202, 2)}
    assert await count(settings, UPLOADED) == 2
    assert (await client.post(path)).json()["file_status"] == "pending"


async def test_retries_at_the_same_time_on_two_pods_start_one_new_run(
    client: httpx.AsyncClient, publisher: Publisher, status_settings: StatusSettings
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), failed())
    async with served(create_app(status_settings)) as other:
        await until_ready(other)
        for pod in (client, other):
            await wait_for(pod, file_id, "failed")
        path = f"/api/files/{file_id}/retry"
        await asyncio.gather(client.post(path), other.post(path))
        await publish(publisher, file_id, failed(run=2))
        for pod in (client, other):
            document = (await wait_for(pod, file_id, "failed")).json()
            assert document["run"] == 2
            assert [line["type"] for line in document["history"]].count("file.requeued") == 1


async def test_a_command_that_kafka_does_not_take_is_answered_503_and_never_given(
    status_settings: StatusSettings,
    publisher: Publisher,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.status.app.COMMAND_TIMEOUT", 1.0)
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    async with line_to(settings.kafka) as line:
        on_the_line = status_settings.model_copy(update={"kafka": line.address})
        async with served(create_app(on_the_line)) as client:
            await until_ready(client)
            await wait_for(client, file_id, "pending")
            await line.cut()
            refused = await client.post(f"/api/files/{file_id}/cancel")
            assert (refused.status_code, refused.json()["code"]) == (503, "kafka_unavailable")
            assert (await client.get(status_path(file_id))).json()["phase"] == "queued"
            await line.open()
            async with asyncio.timeout(20):
                while (await client.post(f"/api/files/{file_id}/cancel")).status_code != 202:
                    await asyncio.sleep(0.2)
    assert await count(settings, CONTROL) == 1

"""The status service serves and pushes what the log says: real Kafka, real MongoDB, real HTTP."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.status.app import create_app
from services.status.settings import StatusSettings
from services.status.store.query import ListCursor, Sort
from shared.blobs.blobs import open_blob_store
from shared.blobs.places import source_key
from shared.events.events import FileDead, new_file_id
from shared.events.topics import DEAD
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish, status_path, wait_for
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
from tests.support.consuming import consume
from tests.support.serving import served


async def status_events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Return the documents of an SSE stream until it ends."""
    async for line in response.aiter_lines():
        if line.startswith("data: {") and line != "data: {}":
            yield json.loads(line.removeprefix("data: "))


async def test_an_id_just_handed_out_is_never_unknown(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    asking = asyncio.create_task(client.get(status_path(file_id)))
    await asyncio.sleep(0.3)
    await publish(publisher, file_id, uploaded())
    answer = await asking
    assert answer.status_code == 200
    assert answer.json()["status"] == "pending"
    assert 1 <= int(answer.headers["retry-after"]) <= 30


async def test_an_unknown_id_is_a_problem_document(client: httpx.AsyncClient) -> None:
    answer = await client.get(status_path("nope"))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unknown_file"
    assert "'nope'" in answer.json()["detail"]


async def test_a_stream_shows_every_state_and_ends_with_the_terminal_one(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    async with client.stream("GET", status_path(file_id), params={"stream": "true"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        seen: list[Any] = []
        async for document in status_events(response):
            seen.append((document["status"], document["phase"]))
            match len(seen):
                case 1:
                    await publish(publisher, file_id, processing())
                case 2:
                    await publish(publisher, file_id, progressed())
                case 3:
                    await publish(publisher, file_id, retrying())
                case 4:
                    await publish(publisher, file_id, processing(2))
                case 5:
                    await publish(publisher, file_id, completed(2))
    assert seen == [
        ("pending", "queued"),
        ("processing", "starting"),
        ("processing", "extracting"),
        ("pending", "waiting to retry"),
        ("processing", "starting"),
        ("completed", "completed"),
    ]


async def test_a_browser_that_has_seen_the_end_is_told_to_reconnect_no_more(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing(), completed())
    document = await wait_for(client, file_id, "completed")
    answer = await client.get(
        status_path(file_id),
        params={"stream": "true"},
        headers={"Last-Event-ID": document.headers["etag"]},
    )
    assert answer.status_code == 204


async def test_a_long_poll_answers_at_the_next_change(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    first = await client.get(status_path(file_id))
    unchanged = await client.get(
        status_path(file_id), params={"wait": 0.2}, headers={"If-None-Match": first.headers["etag"]}
    )
    assert unchanged.status_code == 304
    polling = asyncio.create_task(
        client.get(
            status_path(file_id),
            params={"wait": 20},
            headers={"If-None-Match": first.headers["etag"]},
        )
    )
    await asyncio.sleep(0.2)
    assert not polling.done()
    await publish(publisher, file_id, processing())
    assert (await polling).json()["status"] == "processing"


async def test_a_client_that_has_the_document_is_told_so_until_it_changes(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    for path in (status_path(file_id), f"/api/files/{file_id}"):
        tag = (await client.get(path)).headers["etag"].removeprefix("W/")
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            unchanged = await client.get(path, headers={"If-None-Match": known})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert unchanged.headers["etag"].removeprefix("W/") == tag
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    # A compressing proxy weakens the tag. The long poll must still wait.
    begun = asyncio.get_running_loop().time()
    waited = await client.get(path, params={"wait": 0.3}, headers={"If-None-Match": f"W/{tag}"})
    assert waited.status_code == 304
    assert asyncio.get_running_loop().time() - begun >= 0.3


async def test_a_long_poll_ends_when_the_file_is_deleted(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    await client.get(status_path(file_id))
    polling = asyncio.create_task(client.get(status_path(file_id), params={"wait": 20}))
    await asyncio.sleep(0.2)
    await publish(publisher, file_id, deleted())
    answer = await polling
    assert (answer.status_code, answer.json()["code"]) == (410, "deleted")


async def test_only_the_members_that_are_asked_for_are_answered(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    some = await client.get(status_path(file_id), params={"fields": "status, phase"})
    assert some.json() == {"file_id": file_id, "status": "pending", "phase": "queued"}
    refused = await client.get(f"/api/files/{file_id}", params={"fields": "status,colour"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert "no 'colour'; it has attempt, " in refused.json()["detail"]


async def test_the_result_and_its_artifacts_are_served_as_downloads(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    text: dict[str, Any] = {"content_type": "text/plain", "charset": "iso-8859-1"}
    await publish(publisher, file_id, uploaded(name="../../etc/passwd", **text), processing())
    await wait_for(client, file_id, "processing")
    assert (await client.get(f"/api/files/{file_id}/result")).json()["code"] == "no_result"
    done = about(file_id, completed())
    result = done.data.result.model_copy(update={"prefix": f"files/{file_id}/1.1"})
    done = done.model_copy(update={"data": done.data.model_copy(update={"result": result})})
    blobs = open_blob_store(settings)
    await blobs.put(f"files/{file_id}/1.1/text.txt", b"<hello>")
    await blobs.put(source_key(file_id), b"x" * 1234)
    await publisher.publish(done)
    await wait_for(client, file_id, "completed")
    assert (await client.get(f"/api/files/{file_id}/result")).json()["statistics"] == {"pages": 2}
    artifact = await client.get(f"/api/files/{file_id}/artifacts/text.txt")
    assert artifact.headers["content-disposition"].startswith("attachment")
    assert artifact.headers["x-content-type-options"] == "nosniff"
    missing = await client.get(f"/api/files/{file_id}/artifacts/../../../source")
    assert missing.status_code == 404
    source = await client.get(f"/api/files/{file_id}/source")
    saved_as = "attachment; filename=\"passwd\"; filename*=UTF-8''passwd"
    assert source.headers["content-disposition"] == saved_as
    assert source.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert source.headers["etag"] == f'"{"0" * 64}"'
    rest = await client.get(f"/api/files/{file_id}/source", headers={"Range": "bytes=1230-"})
    assert (rest.status_code, rest.content) == (206, b"xxxx")


async def test_a_deleted_file_is_gone(client: httpx.AsyncClient, publisher: Publisher) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), deleted())
    async with asyncio.timeout(10):
        while (answer := await client.get(f"/api/files/{file_id}")).status_code != 410:
            await asyncio.sleep(0.05)
    assert answer.json()["code"] == "deleted"


async def test_the_history_of_a_file_is_told_in_order(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, processing(), failed(), uploaded())
    await wait_for(client, file_id, "failed")
    async with asyncio.timeout(10):
        while True:
            told = (await client.get(f"/api/files/{file_id}/events")).json()
            lines = told["items"]
            assert told["complete"] == (len(lines) == 3)
            if told["complete"]:
                break
    assert [line["type"] for line in lines] == ["file.uploaded", "file.processing", "file.failed"]
    assert lines[1]["pod"] == "pod-a"
    assert (lines[2]["code"], lines[2]["took_seconds"]) == ("corrupt_document", 8.0)


async def test_a_list_tells_no_histories_and_links_to_the_next_page(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    await wait_for(client, file_id, "pending")
    async with asyncio.timeout(10):
        while not (items := (await client.get("/api/files")).json()["items"]):
            await asyncio.sleep(0.05)
    assert items[0]["file_id"] == file_id
    assert "history" not in items[0]
    await publish(publisher, new_file_id(), uploaded(), processing())
    async with asyncio.timeout(10):
        while "next" not in (first := await client.get("/api/files?limit=1&fields=status")).links:
            await asyncio.sleep(0.05)
    second = await client.get(first.links["next"]["url"])
    assert second.json() == {
        "items": [{"file_id": file_id, "status": "pending"}],
        "next_cursor": None,
    }
    both = {"status": ["pending", "processing"], "label": ["project:x"]}
    assert len((await client.get("/api/files", params=both)).json()["items"]) == 2
    assert (await client.get("/api/files", params={"label": "project:y"})).json()["items"] == []


BAD_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"limit": 0}, "limit"),
    ({"status": "lost"}, "status"),
    ({"label": "project"}, "key:value"),
    ({"sort": "size"}, "sort"),
    ({"name": "a\x00b"}, "name"),
    ({"created_since": "2026-11-25T09:00:00"}, "created_since"),
    ({"updated_before": "yesterday"}, "updated_before"),
    ({"cursor": "WyJ4Il0"}, "start from the first page"),
    ({"cursor": "ä"}, "start from the first page"),
    ({"cursor": ListCursor(Sort.OLDEST_FIRST, "x", None).to_text()}, "belongs to sort=created"),
    ({"fields": "name,place"}, "no 'place'; it has attempt, "),
]


async def test_a_parameter_that_cannot_be_used_is_named(client: httpx.AsyncClient) -> None:
    for params, told in BAD_PARAMETERS:
        refused = await client.get("/api/files", params=params)
        assert refused.status_code == 422, params
        assert refused.json()["code"] == "bad_parameter"
        assert told in refused.json()["detail"]


async def test_an_unreadable_record_is_kept_with_its_reason_and_holds_up_nothing(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    topic = f"{settings.topic_prefix}file.lifecycle"
    await publisher.put_back(topic, file_id, b"no event")
    await publish(publisher, file_id, processing(), completed())
    await wait_for(client, file_id, "completed")
    letter = (await consume(settings, DEAD, 1))[0]
    assert isinstance(letter, FileDead)
    assert (letter.data.topic, letter.file_id) == (topic, file_id)
    assert b64decode(letter.data.payload) == b"no event"
    assert "JSON" in letter.data.reason


async def test_a_pod_that_does_not_know_the_present_yet_answers_nothing(
    status_settings: StatusSettings, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing(), completed())
    async with served(create_app(status_settings)) as client:
        answers: list[httpx.Response] = []
        async with asyncio.timeout(30):
            while not answers or answers[-1].status_code != 200:
                answers.append(await client.get(status_path(file_id)))
    assert answers[0].json()["code"] == "catching_up"
    assert {answer.status_code for answer in answers} == {503, 200}
    assert answers[-1].json()["status"] == "completed"

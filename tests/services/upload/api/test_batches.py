"""A rejected file of a batch does not affect the others, and each one is reported."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.upload.intake import batch
from services.upload.settings import UploadSettings
from tests.services.upload.service import UPLOAD, Service, UploadedEvents, running

GOOD, EMPTY = ("a.txt", b"words"), ("empty.txt", b"")


@pytest.fixture
async def strict(settings: UploadSettings) -> Service:  # type: ignore[misc]
    async with running(
        settings, max_file_size=100, forbidden_types=("application/x-dosexec",)
    ) as service:
        yield service


async def test_the_good_files_are_accepted_and_the_others_told_of(
    service: Service, events: UploadedEvents
) -> None:
    answer = await service.send(EMPTY, GOOD, ("more.txt", b"more"))
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert [file["name"] for file in told["files"]] == ["a.txt", "more.txt"]
    (refused,) = told["refused"]
    assert (refused["index"], refused["name"], refused["code"]) == (0, "empty.txt", "empty_file")
    assert (refused["status"], refused["type"]) == (422, "urn:waybill:problem:empty_file")
    assert "allow_empty=true" in refused["detail"]
    assert told["batch_id"]
    recorded = await events.all()
    assert {event.data.batch_id for event in recorded} == {told["batch_id"]}
    assert {event.file_id for event in recorded} == {file["file_id"] for file in told["files"]}
    assert len(service.files()) == 2


async def test_a_single_good_file_beside_a_bad_one_is_a_batch(service: Service) -> None:
    told = (await service.send(GOOD, EMPTY)).json()
    assert len(told["files"]) == len(told["refused"]) == 1


async def test_a_file_that_is_too_large_holds_up_no_other(strict: Service) -> None:
    answer = await strict.send(("large.txt", b"x" * 101), GOOD)
    assert answer.status_code == 202, answer.text
    assert [file["code"] for file in answer.json()["refused"]] == ["too_large"]
    assert list(strict.files().values()) == [b"words"]


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "chunked"])
async def test_the_size_of_a_batch_holds_up_no_file(
    strict: Service, monkeypatch: pytest.MonkeyPatch, *, is_announced: bool
) -> None:
    monkeypatch.setattr(batch, "MAX_SKIPPED", 1000)
    more = [(f"{number}.txt", b"x" * 90) for number in range(20)]
    request = strict.client.build_request(
        "POST", UPLOAD, files=[("file", file) for file in (("large.txt", b"x" * 900), *more)]
    )
    headers = dict(request.headers)
    content: bytes | AsyncIterator[bytes] = request.read()
    if not is_announced:
        content = in_two(request.read())
        del headers["content-length"]
    answer = await strict.post(content=content, headers=headers)
    assert answer.status_code == 202, answer.text
    assert [file["name"] for file in answer.json()["refused"]] == ["large.txt"]
    assert len(strict.files()) == len(more)


async def in_two(content: bytes) -> AsyncIterator[bytes]:
    yield content[:100]
    yield content[100:]


async def test_a_first_file_with_much_to_read_past_is_refused_at_once(
    strict: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_SKIPPED", 1000)
    answer = await strict.send(("large.txt", b"x" * 10_000_000), GOOD)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert strict.files() == {}


@pytest.mark.parametrize("way", ["query", "field"])
async def test_atomic_accepts_all_or_none(
    service: Service, events: UploadedEvents, way: str
) -> None:
    files = [("file", GOOD), ("file", EMPTY)]
    asked: dict[str, Any] = (
        {"params": {"atomic": "true"}} if way == "query" else {"data": {"atomic": "true"}}
    )
    refused = await service.post(files=files, **asked)
    assert (refused.status_code, refused.json()["code"]) == (422, "empty_file")
    assert [file["name"] for file in refused.json()["refused"]] == ["empty.txt"]
    assert await events.all() == []
    assert service.files() == {}


async def test_nothing_but_bad_files_is_refused_by_the_reason_of_the_first(
    service: Service, events: UploadedEvents
) -> None:
    refused = await service.send(EMPTY, ("also.txt", b""))
    assert (refused.status_code, refused.json()["code"]) == (422, "empty_file")
    assert [file["name"] for file in refused.json()["refused"]] == ["empty.txt", "also.txt"]
    assert await events.all() == []


async def test_a_repeat_tells_the_same_of_each(service: Service) -> None:
    request: dict[str, Any] = {
        "files": [("file", GOOD), ("file", EMPTY)],
        "headers": {"Idempotency-Key": '"k1"'},
    }
    first, again = await service.post(**request), await service.post(**request)
    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await service.post(files=[("file", GOOD)], headers={"Idempotency-Key": '"k1"'})
    assert other.status_code == 422


@pytest.mark.parametrize("way", ["form query", "form field", "raw", "raw without a name", "tus"])
async def test_an_empty_file_is_accepted_where_that_is_asked_for(
    service: Service, events: UploadedEvents, way: str
) -> None:
    option = {"allow_empty": "true"}
    match way:
        case "form query":
            answer = await service.post(files=[("file", EMPTY)], params=option)
        case "form field":
            answer = await service.post(files=[("file", EMPTY)], data=option)
        case "raw":
            answer = await service.post(content=b"", params=option | {"name": "empty.txt"})
        case "raw without a name":
            answer = await service.post(content=b"", params=option)
        case _:
            headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "0"}
            answer = await service.client.post("/api/uploads", params=option, headers=headers)
            assert answer.status_code == 201, answer.text
    if way != "tus":
        assert answer.status_code == 202, answer.text
        assert (answer.json()["size"], answer.json()["content_type"]) == (0, "text/plain")
    event = await events.one()
    assert event.data.size == 0
    assert service.blob(event.file_id) == b""


async def test_an_option_that_is_neither_true_nor_false_is_refused(service: Service) -> None:
    for option in ("atomic", "allow_empty"):
        refused = await service.post(files=[("file", GOOD)], params={option: "yes"})
        assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert service.files() == {}

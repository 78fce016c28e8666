"""Requests with the same Idempotency-Key count as one."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.upload.intake import idempotency, outbox
from services.upload.intake.idempotency import IdempotencyKeys, read_key
from services.upload.settings import UploadSettings
from shared.auth.principal import EVERYBODY, Principal
from shared.blobs.blobs import open_blob_store
from shared.errors import BadIdempotencyKeyError
from tests.services.upload.service import Service, UploadedEvents, running

KEY = '"8e03978e-40d5-43e8-bc93-6894a57f9324"'


async def post(service: Service, key: str = KEY, **request: Any) -> httpx.Response:
    request.setdefault("files", [("file", ("play.txt", b"To be"))])
    return await service.post(headers={"Idempotency-Key": key}, **request)


async def test_a_repeated_request_is_one_file_with_one_answer(
    service: Service, events: UploadedEvents
) -> None:
    first, again = await post(service), await post(service)

    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (await events.one()).file_id == first.json()["file_id"]
    assert len(service.files()) == 1


async def test_a_repeated_batch_is_one_batch(service: Service, events: UploadedEvents) -> None:
    batch = [("file", ("a.txt", b"one")), ("file", ("b.txt", b"two"))]

    first, again = await post(service, files=batch), await post(service, files=batch)

    assert first.json() == again.json()
    assert len(await events.all()) == len(service.files()) == 2


async def test_requests_side_by_side_are_one_file(service: Service, events: UploadedEvents) -> None:
    answers = await asyncio.gather(*(post(service) for _ in range(8)))

    assert {answer.status_code for answer in answers} == {202}
    (file_id,) = {answer.json()["file_id"] for answer in answers}
    assert (await events.one()).file_id == file_id
    assert len(service.files()) == 1


async def test_requests_on_two_pods_are_one_file(
    service: Service, events: UploadedEvents, settings: UploadSettings
) -> None:
    async with running(settings, blobs=service.settings.blobs) as other:
        first, again = await asyncio.gather(post(service), post(other))

    assert first.json() == again.json()
    assert len(await events.all()) == len(service.files()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"files": [("file", ("play.txt", b"Or not"))]},
        {"files": [("file", ("other.txt", b"To be"))]},
        {"data": {"label.a": "b"}},
        {"files": [("file", ("play.txt", b"To be"))] * 2},
    ],
    ids=["content", "name", "labels", "number"],
)
async def test_another_request_with_the_same_key_is_refused(
    service: Service, events: UploadedEvents, changed: dict[str, Any]
) -> None:
    assert (await post(service)).status_code == 202

    refused = await post(service, **changed)

    assert refused.status_code == 422
    assert refused.json()["code"] == "idempotency_key_reused"
    assert "new key" in refused.json()["detail"]
    assert len(await events.all()) == len(service.files()) == 1


async def test_other_keys_are_other_files(service: Service, events: UploadedEvents) -> None:
    await post(service, '"one"')
    await post(service, '"two"')

    assert len(await events.all()) == 2


async def test_a_refused_request_can_be_mended_under_its_key(service: Service) -> None:
    refused = await post(service, files=[("file", ("play.txt", b""))])
    assert refused.status_code == 422

    assert (await post(service)).status_code == 202


async def test_a_repeat_publishes_what_the_first_one_could_not(
    settings: UploadSettings, events: UploadedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FIRST_REQUEST_TIMEOUT", 0.0)
    async with running(settings) as service:
        with monkeypatch.context() as patched:
            patched.setattr(outbox.Outbox, "publish", _fails)
            assert (await post(service)).status_code == 500
        assert await events.all() == []

        answer = await post(service)

        assert answer.status_code == 202
        assert (await events.one()).file_id == answer.json()["file_id"]
        assert service.blob(answer.json()["file_id"]) == b"To be"
        assert len(service.files()) == 1


async def _fails(*_: object) -> None:
    raise RuntimeError("the pod dies here")


@pytest.mark.parametrize("key", ["", '""', '"' + "x" * 256 + '"', "ä", '"a', '"a\\b"', "a b"])
async def test_a_key_is_bounded(service: Service, events: UploadedEvents, key: str) -> None:
    answer = await service.post(content=b"one", headers={"Idempotency-Key": key.encode()})

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_idempotency_key"
    assert "255" in answer.json()["detail"]
    assert service.blobs() == []
    assert await events.all() == []


def test_a_key_may_come_without_its_quotes() -> None:
    assert read_key('"8e03978e"') == read_key("8e03978e") == "8e03978e"
    assert read_key(None) is None
    with pytest.raises(BadIdempotencyKeyError):
        read_key('"one", "two"')


def test_owners_do_not_meet_each_others_keys() -> None:
    askers = [
        EVERYBODY,
        *(Principal(subject=name, tenant=tenant) for name in "ab" for tenant in (None, "a", "b")),
    ]
    assert len({IdempotencyKeys.place("one", asker) for asker in askers}) == len(askers)


@pytest.fixture
async def kept(settings: UploadSettings) -> Path:
    """The file of a key that is a day old; the folder also contains a new one."""
    blobs = open_blob_store(settings)
    for key in ("old", "new"):
        await blobs.put(IdempotencyKeys.place(key, EVERYBODY), b"{}")
    old = Path(settings.blobs, IdempotencyKeys.place("old", EVERYBODY))
    day_ago = time.time() - (idempotency.KEY_TTL + timedelta(minutes=1)).total_seconds()
    os.utime(old, (day_ago, day_ago))
    return old


async def test_keys_are_forgotten_after_a_day(settings: UploadSettings, kept: Path) -> None:
    assert await IdempotencyKeys(open_blob_store(settings)).sweep() == 1

    assert not kept.exists()
    assert Path(settings.blobs, IdempotencyKeys.place("new", EVERYBODY)).exists()


async def test_a_running_service_forgets_them(settings: UploadSettings, kept: Path) -> None:
    async with running(settings), asyncio.timeout(10):
        while kept.exists():
            await asyncio.sleep(0.05)

"""Direct uploads are accepted like ordinary ones."""

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

import waybill
from services.upload.cleanup import sweep
from services.upload.direct_uploads import DirectUploads
from services.upload.intake.accepted import Accepted
from services.upload.settings import UploadSettings
from shared.auth.principal import EVERYBODY
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.places import source_key
from shared.blobs.signing import open_signer
from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError
from tests.access.installation import JWT
from tests.access.people import bearer, token
from tests.services.upload.service import Service, UploadedEvents, running
from tests.support.s3 import BUCKET, ENVIRONMENT
from tests.support.serving import served

DIRECT = "/api/files/upload/direct"
CONTENT = b"%PDF-1.7 " + os.urandom(20_000)


@pytest.fixture
def on_s3(on_s3: UploadSettings) -> UploadSettings:
    """The settings with an object store, and direct uploads enabled."""
    return on_s3.model_copy(update={"direct": True})


@pytest.fixture
def store(on_s3: UploadSettings) -> BlobStore:
    return open_blob_store(on_s3)


@pytest.fixture
async def direct(on_s3: UploadSettings) -> AsyncIterator[Service]:
    async with running(on_s3) as service:
        yield service


async def ask(service: Service, size: int = len(CONTENT), **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    asked = {"name": "report.pdf", "size": size, **more}
    return await service.client.post(DIRECT, json=asked, headers=headers)


async def begin(service: Service, size: int = len(CONTENT), **more: Any) -> dict[str, Any]:
    answer = await ask(service, size, **more)
    assert answer.status_code == 201, answer.text
    begun: dict[str, Any] = answer.json()
    return begun


async def put(begun: dict[str, Any], content: bytes = CONTENT) -> None:
    async with httpx.AsyncClient() as anybody:
        (await anybody.put(begun["url"], content=content)).raise_for_status()


async def complete(service: Service, begun: dict[str, Any], **headers: str) -> httpx.Response:
    return await service.client.post(begun["complete_url"], headers=headers)


async def left(store: BlobStore) -> list[str]:
    return await store.keys("deposits") + await store.keys("sources")


async def test_what_was_put_is_taken_in_like_any_upload(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    begun = await begin(direct, labels={"team": "a"}, sha256=sha256)
    await put(begun)
    assert await events.all() == []

    answer = await complete(direct, begun)

    assert answer.status_code == 202
    assert answer.json() == {
        "file_id": begun["file_id"],
        "status": "pending",
        "name": "report.pdf",
        "size": len(CONTENT),
        "content_type": "application/pdf",
        "sha256": sha256,
        "status_url": f"/api/files/{begun['file_id']}/process/status",
    }
    assert answer.headers["location"] == answer.json()["status_url"]
    event = await events.one()
    assert (event.file_id, event.data.blob) == (begun["file_id"], source_key(begun["file_id"]))
    assert (event.data.labels, event.data.sha256) == ({"team": "a"}, sha256)
    assert await store.get(event.data.blob) == CONTENT


async def test_a_hash_that_nobody_told_is_told_to_nobody(
    direct: Service, events: UploadedEvents
) -> None:
    begun = await begin(direct)
    await put(begun)

    assert (await complete(direct, begun)).json()["sha256"] is None
    assert (await events.one()).data.sha256 is None


async def test_the_service_does_not_see_the_bytes(direct: Service, s3: str) -> None:
    begun = await begin(direct)

    assert begun["url"].startswith(f"{s3}/{BUCKET}/")
    assert begun["method"] == "PUT"
    lasts = datetime.fromisoformat(begun["expires_at"]) - datetime.now().astimezone()
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1)


async def test_clients_may_reach_the_store_by_another_address(on_s3: UploadSettings) -> None:
    async with running(on_s3, direct_endpoint="https://files.example") as service:
        begun = await begin(service)

    assert begun["url"].startswith(f"https://files.example/{BUCKET}/")


async def test_completing_again_is_answered_the_same_and_is_one_file(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    begun = await begin(direct)
    await put(begun)

    together = await asyncio.gather(*(complete(direct, begun) for _ in range(5)))
    later = await complete(direct, begun)

    assert {answer.status_code for answer in (*together, later)} == {202}
    assert {answer.text for answer in (*together, later)} == {later.text}
    assert len({event.id for event in await events.all()}) == 1
    assert await store.get(source_key(begun["file_id"])) == CONTENT


async def test_what_is_put_after_completing_changes_nothing(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    begun = await begin(direct)
    await put(begun)
    first = await complete(direct, begun)
    await put(begun, b"MZ" + CONTENT[2:])

    assert (await complete(direct, begun)).text == first.text
    assert (await events.one()).file_id == begun["file_id"]
    assert await store.get(source_key(begun["file_id"])) == CONTENT


async def test_asking_again_with_a_key_gives_the_same_file_and_a_fresh_address(
    direct: Service, events: UploadedEvents
) -> None:
    key = {"Idempotency-Key": '"once"'}
    first, second = [await begin(direct, headers=key) for _ in range(2)]
    assert first["file_id"] == second["file_id"]
    other = await ask(direct, size=7, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")

    await put(second)
    answer = await complete(direct, second)
    third = await begin(direct, headers=key)

    assert third["file_id"] == first["file_id"]
    assert (await complete(direct, third)).text == answer.text
    assert len(await events.all()) == 1


async def test_a_key_of_an_ordinary_upload_is_another_one(direct: Service) -> None:
    key = {"Idempotency-Key": '"once"'}
    assert (await direct.post(content=b"some words", headers=key)).status_code == 202

    assert (await ask(direct, headers=key)).status_code == 201


async def test_what_was_not_put_is_not_taken_in(direct: Service, events: UploadedEvents) -> None:
    begun = await begin(direct)

    refused = await complete(direct, begun)

    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_put")
    await put(begun)
    assert (await complete(direct, begun)).status_code == 202
    assert len(await events.all()) == 1


async def test_another_length_than_announced_can_be_put_again(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    begun = await begin(direct)
    await put(begun, CONTENT[:-1])

    refused = await complete(direct, begun)

    assert (refused.status_code, refused.json()["code"]) == (400, "length_mismatch")
    assert await events.all() == []
    assert await store.keys("sources") == []
    await put(begun)
    assert (await complete(direct, begun)).status_code == 202


async def test_a_forbidden_type_leaves_nothing(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    program = b"\x7fELF\x02\x01\x01" + bytes(200)
    begun = await begin(direct, size=len(program), content_type="application/pdf")
    await put(begun, program)

    refused = await complete(direct, begun)

    assert (refused.status_code, refused.json()["code"]) == (415, "forbidden_type")
    assert await left(store) == []
    assert await events.all() == []
    assert (await complete(direct, begun)).json()["code"] == "unknown_upload"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"size": 5 * 1024**3 + 1}, 413, "too_large"),
        ({"size": 0}, 422, "empty_file"),
        ({"labels": {"a b": "c"}}, 422, "bad_parameter"),
        ({"sha256": "X" * 64}, 422, "bad_parameter"),
        ({"colour": "blue"}, 422, "bad_parameter"),
    ],
)
async def test_what_would_not_be_accepted_gets_no_address(
    direct: Service, store: BlobStore, asked: dict[str, Any], status: int, code: str
) -> None:
    refused = await ask(direct, **asked)

    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert await left(store) == []


async def test_what_was_given_up_is_forgotten(direct: Service, store: BlobStore) -> None:
    begun = await begin(direct)
    await put(begun)

    given_up = await direct.client.delete(f"{DIRECT}/{begun['file_id']}")

    assert given_up.status_code == 204
    assert await left(store) == []
    assert (await complete(direct, begun)).status_code == 404


async def test_what_nobody_completes_is_swept_and_what_is_young_is_not(
    direct: Service, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(await begin(direct))
    await begin(direct)
    sweeping = DirectUploads(
        settings=direct.settings,
        blobs=store,
        signer=open_signer(direct.settings, endpoint=None),
        intake=None,  # type: ignore[arg-type]
    )
    assert await sweeping.sweep() == 0

    monkeypatch.setattr(sweep, "UPLOAD_TTL", timedelta(seconds=-2))

    assert await sweeping.sweep() == 2
    assert await left(store) == []


async def test_a_store_that_cannot_be_written_to_directly_says_what_to_do(
    service: Service,
) -> None:
    for answer in (
        await ask(service),
        await service.client.post(f"{DIRECT}/01930000-0000-7000-8000-00000000000a/complete"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "direct_off")
        assert "POST /api/files/upload" in answer.json()["detail"]


async def test_nobody_is_let_put_anything_unless_it_is_allowed(on_s3: UploadSettings) -> None:
    async with running(on_s3, direct=False) as service:
        refused = await ask(service)

    assert (refused.status_code, refused.json()["code"]) == (403, "direct_off")
    assert "WAYBILL_DIRECT" in refused.json()["detail"]


@pytest.fixture
async def asking(on_s3: UploadSettings) -> AsyncIterator[Service]:
    """A service with authentication and per-owner limits."""
    known = UploadSettings(**on_s3.model_dump(exclude=set(JWT)), **JWT)
    async with running(known, owner_bytes=3 * len(CONTENT) // 2) as service:
        yield service


async def test_the_deposit_of_somebody_else_is_answered_like_none(
    asking: Service, events: UploadedEvents
) -> None:
    begun = await begin(asking, headers=bearer(token("ada")))
    await put(begun)

    for stranger in (token("bob"), token("ada", "globex"), token("root", "acme", "admin")):
        refused = await complete(asking, begun, **bearer(stranger))
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_upload")
    accepted = await complete(asking, begun, **bearer(token("ada")))

    assert accepted.status_code == 202
    event = await events.one()
    assert (event.data.owner, event.data.tenant) == ("ada", "acme")


async def test_bytes_count_when_they_are_handed_over_and_not_twice(asking: Service) -> None:
    eve = bearer(token("eve"))  # Ada's usage in another test counts for a day.
    begun = [await begin(asking, headers=eve) for _ in range(2)]
    for each in begun:
        await put(each)

    assert [(await complete(asking, begun[0], **eve)).status_code for _ in range(2)] == [202] * 2
    refused = await complete(asking, begun[1], **eve)
    assert (refused.status_code, refused.json()["code"]) == (429, "allowance_used_up")
    assert (await ask(asking, headers=eve)).status_code == 429


async def test_an_owner_may_have_so_many_that_are_not_completed(
    on_s3: UploadSettings, tmp_path: Path
) -> None:
    limited = on_s3.model_copy(update={"owner_at_once": 2})
    known = UploadSettings(**limited.model_dump(exclude=set(JWT)), **JWT)
    ada, bob = (bearer(token(who, tmp_path.name)) for who in ("ada", "bob"))
    async with running(known) as one, running(known) as other:
        first = await begin(one, headers=ada)
        key = {"Idempotency-Key": '"second"'}
        second = await begin(one, headers=ada | key)

        refused = await ask(other, headers=ada)
        assert (refused.status_code, refused.json()["code"]) == (429, "allowance_used_up")
        assert (await ask(other, headers=bob)).status_code == 201
        assert (await begin(other, headers=ada | key))["file_id"] == second["file_id"]

        await put(first)
        assert (await complete(other, first, **ada)).status_code == 202
        assert (await ask(one, headers=ada)).status_code == 201


async def test_a_deposit_is_completed_by_another_pod(
    on_s3: UploadSettings, events: UploadedEvents
) -> None:
    async with running(on_s3) as one, running(on_s3) as other:
        begun = await begin(one)
        await put(begun)

        assert (await complete(other, begun)).text == (await complete(one, begun)).text
    assert len(await events.all()) == 1


def addresses_of(service: Service) -> waybill.Addresses:
    url = str(service.client.base_url).rstrip("/")
    return waybill.Addresses(status=url, upload=url)


async def test_the_clients_put_a_file_and_hand_it_over(
    direct: Service, events: UploadedEvents, store: BlobStore, tmp_path: Path
) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(CONTENT)
    sent: list[int] = []

    def upload() -> str:
        with waybill.Client(addresses_of(direct)) as client:
            answer = client.upload_direct(path, labels={"team": "a"}, on_sent=sent.append)
            return str(answer["file_id"])

    one = await asyncio.to_thread(upload)
    async with waybill.AsyncClient(addresses_of(direct)) as client:
        two = (await client.upload_direct(path, sha256="0" * 64))["file_id"]

    told = {event.file_id: event.data for event in await events.all()}
    assert told.keys() == {one, two}
    assert (told[one].labels, told[one].sha256) == ({"team": "a"}, None)
    assert told[two].sha256 == "0" * 64
    assert await store.get(source_key(one)) == await store.get(source_key(two)) == CONTENT
    assert sum(sent) == len(CONTENT)


async def test_the_store_is_not_told_who_asks_a_waybill(
    on_s3: UploadSettings, tmp_path: Path
) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(CONTENT)
    told: list[httpx.Headers] = []
    store = FastAPI()

    @store.put("/{key:path}")
    async def take(request: Request) -> None:
        told.append(httpx.Headers(request.headers.raw))

    async with (
        served(store, past_asgi=False) as elsewhere,
        running(on_s3, direct_endpoint=str(elsewhere.base_url).rstrip("/")) as service,
        waybill.AsyncClient(addresses_of(service), token="ours") as client,  # noqa: S106
    ):
        with pytest.raises(waybill.RefusedError) as refused:
            await client.upload_direct(path)

    assert refused.value.code == "nothing_put"
    (headers,) = told
    assert "authorization" not in headers
    assert headers["content-length"] == str(len(CONTENT))


async def test_a_client_says_that_the_store_is_not_there_and_gives_up_its_place(
    on_s3: UploadSettings, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(CONTENT)
    monkeypatch.setattr(waybill.calls, "RETRY_DELAY", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        running(on_s3, direct_endpoint=closed) as service,
        waybill.AsyncClient(addresses_of(service)) as client,
    ):
        with pytest.raises(waybill.NoAnswerError, match="object store"):
            await client.upload_direct(path)
        with (
            waybill.Client(addresses_of(service)) as other,
            pytest.raises(waybill.NoAnswerError, match="object store"),
        ):
            await asyncio.to_thread(other.upload_direct, path)

    assert await left(store) == []


class Broken:
    """An intake that records nothing, like a killed pod."""

    async def record(self, _: Accepted) -> None:
        raise KafkaUnavailableError


async def test_what_broke_off_before_its_event_is_completed_when_it_is_asked_for_again(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    begun = await begin(direct)
    await put(begun)
    broken = DirectUploads(
        settings=direct.settings,
        blobs=store,
        signer=open_signer(direct.settings, endpoint=None),
        intake=Broken(),  # type: ignore[arg-type]
    )
    direct_upload = await broken.find(begun["file_id"], EVERYBODY)
    with pytest.raises(KafkaUnavailableError):
        await broken.complete(direct_upload, EVERYBODY)

    assert (await complete(direct, begun)).status_code == 202
    assert (await events.one()).file_id == begun["file_id"]


async def test_what_broke_off_after_its_event_is_the_same_file_when_it_is_asked_for_again(
    direct: Service, events: UploadedEvents, store: BlobStore
) -> None:
    begun = await begin(direct)
    await put(begun)
    (ticket,) = [key for key in await store.keys("deposits") if key.endswith("ticket.json")]
    left_behind = {key: await store.get(key) for key in await store.keys("deposits")}
    first = await complete(direct, begun)
    await store.delete(ticket.replace("ticket", "done"))
    for key, content in left_behind.items():
        await store.put(key, content)

    assert (await complete(direct, begun)).text == first.text
    assert len({event.id for event in await events.all()}) == 1
    assert await store.get(source_key(begun["file_id"])) == CONTENT


async def test_without_credentials_nothing_is_signed(
    on_s3: UploadSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    # The cloud metadata service, which does not answer here.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    signer = open_signer(on_s3, endpoint=None)
    assert signer is not None
    with pytest.raises(BlobStoreUnavailableError):
        await signer.to_put("key", lasts=timedelta(hours=1))

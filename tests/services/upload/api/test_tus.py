"""An interrupted upload resumes where it stopped, on any pod, and becomes one file."""

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.upload.body.body import IncomingFile
from services.upload.cleanup.sweep import UPLOAD_TTL
from services.upload.intake.accepted import StoredFile
from services.upload.intake.intake import Intake
from services.upload.resumable import appending
from services.upload.resumable.resumable import Resumable, chain
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.blobs.blobs import BLOCK, open_blob_store
from shared.blobs.places import source_key
from shared.errors import UnknownUploadError
from shared.events.events import new_file_id
from tests.access.installation import JWT
from tests.access.people import bearer, token
from tests.services.upload.service import Service, UploadedEvents, running

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
CONTENT = os.urandom(3 * BLOCK + 1)


def metadata(**values: str) -> str:
    return ",".join(
        f"{name.replace('label_', 'label.')} {base64.b64encode(value.encode()).decode()}"
        for name, value in values.items()
    )


async def create(service: Service, length: int = len(CONTENT), **more: Any) -> str:
    """Create an upload and return its URL."""
    headers = {**TUS, "Upload-Length": str(length), **more.pop("headers", {})}
    answer = await service.client.post("/api/uploads", headers=headers, **more)
    assert answer.status_code == 201, answer.text
    assert answer.headers["tus-resumable"] == "1.0.0"
    return str(answer.headers["location"])


async def patch(
    service: Service, location: str, offset: int, content: Any, **headers: str
) -> httpx.Response:
    headers = {**BYTES, "Upload-Offset": str(offset), **headers}
    return await service.client.patch(location, content=content, headers=headers)


async def offset_of(service: Service, location: str) -> int:
    answer = await service.client.head(location, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


async def breaking(content: bytes) -> AsyncIterator[bytes]:
    """Yield the content, then break the connection."""
    yield content
    await asyncio.sleep(0.3)
    raise ConnectionError("the line broke")


async def test_an_upload_that_breaks_off_goes_on_on_another_pod(
    anywhere: UploadSettings, events: UploadedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "PART", BLOCK)
    monkeypatch.setattr(appending, "PART_SECONDS", 0)
    async with running(anywhere) as first, running(anywhere) as second:
        named = {"Upload-Metadata": metadata(filename="día.bin", label_team="a")}
        location = await create(first, headers=named)
        with pytest.raises(ConnectionError):
            await patch(first, location, 0, breaking(CONTENT[: BLOCK + 5]))
        assert await events.all() == []

        there = await offset_of(second, location)
        assert there == BLOCK + 5
        answer = await patch(second, location, there, CONTENT[there:])

        assert answer.status_code == 204
        assert int(answer.headers["upload-offset"]) == len(CONTENT)
        assert await offset_of(first, location) == len(CONTENT)
    event = await events.one()
    assert location == f"/api/uploads/{event.file_id}"
    assert (event.data.name, event.data.labels) == ("día.bin", {"team": "a"})
    assert event.data.sha256 == hashlib.sha256(CONTENT).hexdigest()
    blobs = open_blob_store(anywhere)
    assert await blobs.get(source_key(event.file_id)) == CONTENT
    assert await blobs.keys("uploads") == [f"uploads/{event.file_id}/ticket.json"]


async def test_the_address_of_an_upload_may_come_in_capital_letters(
    service: Service, events: UploadedEvents
) -> None:
    location = await create(service)
    folder, _, upload_id = location.rpartition("/")
    upper = f"{folder}/{upload_id.upper()}"
    assert await offset_of(service, upper) == 0
    assert (await patch(service, upper, 0, CONTENT)).status_code == 204
    assert (await events.one()).file_id == upload_id
    parts = [await create(service, headers={"Upload-Concat": "partial"}) for _ in range(2)]
    for part in parts:
        await patch(service, part, 0, CONTENT)
    named = " ".join(f"{folder}/{part.rpartition('/')[2].upper()}" for part in parts)
    headers = {**TUS, "Upload-Concat": f"final;{named}"}
    assert (await service.client.post("/api/uploads", headers=headers)).status_code == 201
    for spelling in (f"{{{upload_id}}}", upload_id.replace("-", "")):
        assert (await service.client.head(f"{folder}/{spelling}", headers=TUS)).status_code == 404


async def test_the_first_bytes_can_come_with_the_creation(
    service: Service, events: UploadedEvents
) -> None:
    location = await create(service, length=5, content=b"To be", headers=BYTES)

    assert await offset_of(service, location) == 5
    event = await events.one()
    assert service.blob(event.file_id) == b"To be"
    assert event.data.name == "unnamed"


async def test_what_one_request_brings_is_not_read_again(
    anywhere: UploadSettings, events: UploadedEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Intake, "store_known")  # It would read the parts again.
    monkeypatch.setattr(appending, "PART", BLOCK)
    async with running(anywhere) as service:
        location = await create(service)
        assert (await patch(service, location, 0, CONTENT)).status_code == 204

    event = await events.one()
    assert event.data.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert event.data.size == len(CONTENT)
    blobs = open_blob_store(anywhere)
    assert await blobs.get(source_key(event.file_id)) == CONTENT
    assert await blobs.keys("uploads") == [f"uploads/{event.file_id}/ticket.json"]


@pytest.mark.parametrize(
    ("name", "value"), [("PART_SECONDS", 0), ("LARGEST_PART", BLOCK)], ids=["slow", "large"]
)
async def test_what_one_request_brings_in_parts_is_what_was_sent(
    service: Service,
    events: UploadedEvents,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: int,
) -> None:
    monkeypatch.setattr(appending, "PART", BLOCK)
    monkeypatch.setattr(appending, name, value)
    parts = []
    store_known = Intake.store_known

    async def seen(self: Intake, file_id: str, file: IncomingFile) -> StoredFile:
        parts.extend(await open_blob_store(service.settings).keys(f"uploads/{file_id}"))
        return await store_known(self, file_id, file)

    monkeypatch.setattr(Intake, "store_known", seen)
    location = await create(service)
    assert (await patch(service, location, 0, CONTENT)).status_code == 204

    event = await events.one()
    assert len(parts) > 2
    assert event.data.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert service.blob(event.file_id) == CONTENT


async def test_of_parts_that_begin_at_the_same_the_largest_counts(
    service: Service, events: UploadedEvents
) -> None:
    location = await create(service, length=9)
    parts, folder = open_blob_store(service.settings), location.removeprefix("/api/")
    for number, part in enumerate((b"To", b"To be", b"T")):
        await parts.put(f"{folder}/{0:020d}.{number}", part)

    assert await offset_of(service, location) == 5
    assert (await patch(service, location, 5, b" or ")).status_code == 204
    assert service.blob((await events.one()).file_id) == b"To be or "


async def test_what_is_all_there_becomes_a_file_when_it_is_looked_at(
    service: Service, events: UploadedEvents
) -> None:
    location = await create(service, length=5)
    parts = open_blob_store(service.settings)
    await parts.put(f"{location.removeprefix('/api/')}/{0:020d}", b"To be")

    assert await offset_of(service, location) == await offset_of(service, location) == 5

    assert service.blob((await events.one()).file_id) == b"To be"


async def test_a_part_goes_where_the_upload_is_and_nowhere_else(service: Service) -> None:
    location = await create(service, length=10)
    assert (await patch(service, location, 0, b"To be")).status_code == 204

    for offset in (0, 4, 6):
        refused = await patch(service, location, offset, b"x")
        assert (refused.status_code, refused.json()["code"]) == (409, "offset_conflict")
        assert refused.headers["tus-resumable"] == "1.0.0"
    too_much = await patch(service, location, 5, b"or not to be")
    assert (too_much.status_code, too_much.json()["code"]) == (413, "too_large")
    assert await offset_of(service, location) == 5


@pytest.mark.parametrize("algorithm", appending.ALGORITHMS)
async def test_bytes_that_changed_on_their_way_are_not_kept(
    service: Service, events: UploadedEvents, algorithm: str
) -> None:
    location = await create(service)
    digest = base64.b64encode(hashlib.new(algorithm, CONTENT).digest()).decode()
    checksum = {"Upload-Checksum": f"{algorithm} {digest}"}

    changed = await patch(service, location, 0, CONTENT[:-1] + b"x", **checksum)
    assert (changed.status_code, changed.json()["code"]) == (460, "checksum_mismatch")
    assert await offset_of(service, location) == 0
    assert (await patch(service, location, 0, CONTENT, **checksum)).status_code == 204
    assert (await events.one()).data.size == len(CONTENT)


@pytest.mark.parametrize("checksum", ["crc32 AAAA", "sha1", "sha1 !"])
async def test_a_checksum_must_be_one_that_is_known(service: Service, checksum: str) -> None:
    location = await create(service)

    answer = await patch(service, location, 0, b"x", **{"Upload-Checksum": checksum})

    assert answer.status_code == 422
    assert "sha1, sha256, md5" in answer.json()["detail"]


async def test_an_upload_can_be_given_up(service: Service, events: UploadedEvents) -> None:
    location = await create(service, length=10)
    await patch(service, location, 0, b"To be")

    assert (await service.client.delete(location, headers=TUS)).status_code == 204

    assert service.blobs() == []
    assert (await service.client.head(location, headers=TUS)).status_code == 404
    assert (await patch(service, location, 5, b"x")).status_code == 404
    assert await events.all() == []


async def test_a_file_of_a_forbidden_type_leaves_nothing(
    service: Service, events: UploadedEvents
) -> None:
    executable = b"MZ\x90\x00" + bytes(200)
    location = await create(service, length=len(executable))

    refused = await patch(service, location, 0, executable)

    assert (refused.status_code, refused.json()["code"]) == (415, "forbidden_type")
    assert service.blobs() == []
    assert await events.all() == []


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({"Upload-Length": "5", "Tus-Resumable": "0.2"}, 412, "1.0.0"),
        ({"Upload-Length": "0"}, 422, "empty"),
        ({"Upload-Length": "1001"}, 413, "1000"),
        ({"Upload-Length": "-1"}, 422, "Upload-Length"),
        ({"Upload-Length": "1" * 30}, 422, "Upload-Length"),
        ({"Upload-Defer-Length": "1"}, 422, "Upload-Length"),
        ({"Upload-Length": "5", "Upload-Metadata": "filename !"}, 422, "base64"),
        ({"Upload-Length": "5", "Upload-Metadata": "x" * 8193}, 422, "8192"),
        ({"Upload-Length": "5", "Upload-Metadata": "label.$ YQ=="}, 422, "label"),
    ],
)
async def test_what_cannot_be_begun_is_refused(
    settings: UploadSettings, headers: dict[str, str], status: int, told: str
) -> None:
    async with running(settings, max_file_size=1000) as service:
        answer = await service.client.post("/api/uploads", headers={**TUS, **headers})

    assert answer.status_code == status
    assert told in answer.text
    assert service.blobs() == []


async def test_a_client_that_comes_again_takes_over(service: Service) -> None:
    location = await create(service)
    sent = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        sent.set()
        await asyncio.sleep(60)

    older = asyncio.create_task(patch(service, location, 0, hanging()))
    await sent.wait()
    await asyncio.sleep(0.1)

    async with asyncio.timeout(20):
        assert await offset_of(service, location) == 1000
        assert (await patch(service, location, 1000, CONTENT[1000:])).status_code == 204
    older.cancel()


async def test_what_is_said_of_the_service_is_said_to_everybody(service: Service) -> None:
    answer = await service.client.options("/api/uploads")

    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert "checksum" in answer.headers["tus-extension"]
    assert answer.headers["tus-max-size"] == str(service.settings.max_file_size)
    assert "sha1" in answer.headers["tus-checksum-algorithm"]


async def test_a_method_can_be_named_in_a_header(service: Service) -> None:
    location = await create(service, length=10)
    headers = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}

    assert (
        await service.client.post(location, content=b"To be", headers=headers)
    ).status_code == 204

    assert await offset_of(service, location) == 5


async def test_an_upload_is_nobody_elses(settings: UploadSettings) -> None:
    asking = UploadSettings(**settings.model_dump(exclude=set(JWT)), **JWT)
    ada, bob = bearer(token("ada")), bearer(token("bob"))
    async with running(asking) as service:
        location = await create(service, length=5, headers=ada)
        nowhere = f"/api/uploads/{new_file_id()}"
        for method in ("PATCH", "DELETE"):
            headers = {**BYTES, "Upload-Offset": "0"}
            other = await service.client.request(method, location, headers=headers | bob)
            unknown = await service.client.request(method, nowhere, headers=headers | bob)
            assert other.status_code == unknown.status_code == 404
            assert other.json() | {"instance": ""} == unknown.json() | {"instance": ""}
        assert (await service.client.head(location, headers=TUS | bob)).status_code == 404
        assert (await service.client.head(location, headers=TUS)).status_code == 401
        assert (await patch(service, location, 0, b"To be", **ada)).status_code == 204


async def test_an_upload_that_nobody_goes_on_with_is_swept(settings: UploadSettings) -> None:
    async with running(settings) as service:
        old, young = [await create(service, length=10) for _ in range(2)]
        answer = await patch(service, old, 0, b"To be")
        expires = parsedate_to_datetime(answer.headers["upload-expires"])
        day = UPLOAD_TTL.total_seconds()
        assert day - 60 < expires.timestamp() - time.time() <= day
    folder = Path(settings.blobs, old.removeprefix("/api/"))
    before = time.time() - (UPLOAD_TTL + timedelta(minutes=1)).total_seconds()
    for path in folder.iterdir():
        os.utime(path, (before, before))

    async with running(settings) as service, asyncio.timeout(10):
        while list(folder.glob("*")):
            await asyncio.sleep(0.05)
        assert (await service.client.head(old, headers=TUS)).status_code == 404
        assert await offset_of(service, young) == 0


def test_parts_count_as_far_as_they_follow_on_each_other() -> None:
    assert chain({}) == ([], 0)
    assert chain({0: 5, 5: 3, 9: 1}) == ([0, 5], 8)
    assert chain({3: 5}) == ([], 0)
    assert chain({0: 0}) == ([], 0)


async def test_nobody_ends_the_running_upload_of_another() -> None:
    blobs = open_blob_store(UploadSettings(blobs="memory://"))
    intake: Any = None  # No upload is completed.
    uploads = Resumable(settings=UploadSettings(), blobs=blobs, intake=intake)
    ada, bob = Principal(subject="ada"), Principal(subject="bob")
    upload_id = await uploads.create(10, {}, ada)
    async with uploads.hold(upload_id, ada) as (_, asked_to_end), asyncio.timeout(5):
        with pytest.raises(UnknownUploadError):
            async with uploads.hold(upload_id, bob):
                pass
        assert not asked_to_end.is_set()


async def partial(service: Service, content: bytes, **headers: str) -> str:
    """Create a complete partial upload and return its URL."""
    concat = {"Upload-Concat": "partial", **headers}
    location = await create(service, len(content), headers=concat)
    assert (await patch(service, location, 0, content, **headers)).status_code == 204
    return location


async def concatenate(service: Service, *locations: str, **headers: str) -> httpx.Response:
    concat = {
        **TUS,
        "Upload-Concat": f"final;{' '.join(locations)}",
        "Upload-Metadata": metadata(filename="both.bin", label_team="a"),
        **headers,
    }
    return await service.client.post("/api/uploads", headers=concat)


async def test_partial_uploads_become_one_file_in_the_order_that_is_named(
    anywhere: UploadSettings, events: UploadedEvents
) -> None:
    store = open_blob_store(anywhere)
    async with running(anywhere) as one, running(anywhere) as other:
        second, first = await asyncio.gather(partial(one, b"a Waybill"), partial(other, b"To be "))
        assert await events.all() == []

        # Some clients send absolute URLs.
        answer = await concatenate(other, f"{one.client.base_url}{first[1:]}", second)

        assert answer.status_code == 201, answer.text
        final = answer.headers["location"]
        event = await events.one()
        assert final == f"/api/uploads/{event.file_id}"
        assert (event.data.name, event.data.labels) == ("both.bin", {"team": "a"})
        assert await store.get(event.data.blob) == b"To be a Waybill"
        told = await one.client.head(final, headers=TUS)
        assert told.headers["upload-concat"].startswith("final;http")
        assert told.headers["upload-offset"] == told.headers["upload-length"] == "15"
        assert [key for key in await store.keys("uploads") if key[-1].isdecimal()] == []


async def test_a_final_upload_that_is_asked_for_again_is_the_same(
    service: Service, events: UploadedEvents
) -> None:
    parts = [await partial(service, content) for content in (b"one ", b"two")]

    together = await asyncio.gather(*(concatenate(service, *parts) for _ in range(5)))
    later = await concatenate(service, *parts)

    assert {answer.status_code for answer in (*together, later)} == {201}
    assert {answer.headers["location"] for answer in (*together, later)} == {
        later.headers["location"]
    }
    assert len({event.id for event in await events.all()}) == 1
    other = await concatenate(service, *reversed(parts))
    assert (other.status_code, other.json()["code"]) == (409, "offset_conflict")
    assert len({event.id for event in await events.all()}) == 1


async def test_a_partial_upload_tells_that_it_is_one_and_can_be_resumed(
    service: Service, events: UploadedEvents
) -> None:
    location = await create(service, 10, headers={"Upload-Concat": "partial"})
    assert (await patch(service, location, 0, b"To be")).status_code == 204
    early = await concatenate(service, location)
    assert (early.status_code, early.json()["code"]) == (409, "offset_conflict")

    told = await service.client.head(location, headers=TUS)
    assert (told.headers["upload-concat"], told.headers["upload-offset"]) == ("partial", "5")
    assert (await patch(service, location, 5, b", too")).status_code == 204
    assert (await concatenate(service, location)).status_code == 201

    assert service.blob((await events.one()).file_id) == b"To be, too"


async def test_a_final_upload_has_no_bytes_of_its_own(service: Service) -> None:
    final = (await concatenate(service, await partial(service, b"words"))).headers["location"]

    refused = await patch(service, final, 5, b"more")

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


async def test_nobody_makes_a_file_of_the_uploads_of_somebody_else(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    asking = UploadSettings(**settings.model_dump(exclude=set(JWT)), **JWT)
    ada, bob = (bearer(token(who)) for who in ("ada", "bob"))
    async with running(asking) as service:
        hers, his = await partial(service, b"hers", **ada), await partial(service, b"his", **bob)

        refused = await concatenate(service, his, hers, **bob)

        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_upload")
        assert await events.all() == []
        assert (await concatenate(service, hers, **ada)).status_code == 201


async def test_what_is_no_partial_upload_becomes_part_of_no_file(service: Service) -> None:
    whole = await create(service, 5)
    answer = await concatenate(service, whole)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "final",
        "final;",
        "final;/api/uploads/",
        "Partial",
        f"final;{' '.join(f'/{n}' for n in range(101))}",
        "final;/a /a",
    ],
)
async def test_what_upload_concat_cannot_say_is_refused(service: Service, header: str) -> None:
    answer = await service.client.post(
        "/api/uploads", headers={**TUS, "Upload-Length": "5", "Upload-Concat": header}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter"), answer.text


async def test_a_refused_final_upload_leaves_no_file(
    service: Service, events: UploadedEvents
) -> None:
    parts = [await partial(service, content) for content in (b"MZ\x90\x00", bytes(200))]

    refused = await concatenate(service, *parts)

    assert (refused.status_code, refused.json()["code"]) == (415, "forbidden_type")
    assert await events.all() == []
    assert not Path(service.settings.blobs, "sources").exists() or not list(
        Path(service.settings.blobs, "sources").iterdir()
    )

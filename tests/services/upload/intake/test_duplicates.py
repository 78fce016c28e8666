"""A repeated upload of equal content returns the earlier file, if it still counts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import waybill
from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.intake.duplicates import Duplicates
from services.upload.kafka_connection import KafkaConnection
from services.upload.settings import UploadSettings
from shared.auth.principal import EVERYBODY
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.blobs.places import source_key
from shared.events.events import StatusEvent, new_file_id
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from tests.access.installation import JWT
from tests.access.people import bearer, token
from tests.services.upload.service import Service, UploadedEvents, running
from tests.support.builders import about, cancelled, completed, deleted, failed
from tests.support.stored import stored_files

WORDS = b"some words"


@pytest.fixture
def looking(settings: UploadSettings) -> UploadSettings:
    """Settings with deduplication on request."""
    return settings.model_copy(update={"deduplicate": "asked"})


@pytest.fixture
async def pod(looking: UploadSettings) -> AsyncIterator[Service]:
    async with running(looking) as service:
        yield service


@pytest.fixture
async def publisher(looking: UploadSettings) -> AsyncIterator[Publisher]:
    async with Publisher(looking, client_id="tests") as publisher:
        yield publisher


async def send(service: Service, content: bytes = WORDS, **more: Any) -> httpx.Response:
    params = {"name": "a.txt", "deduplicate": "true"} | more.pop("params", {})
    return await service.post(content=content, params=params, **more)


async def sent(service: Service, content: bytes = WORDS, **more: Any) -> dict[str, Any]:
    answer = await send(service, content, **more)
    told: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if "deduplicated" in told else 202), answer.text
    return told


async def test_what_is_sent_again_is_the_earlier_file_and_stores_nothing(
    pod: Service, events: UploadedEvents
) -> None:
    first = await sent(pod)
    assert "deduplicated" not in first
    left = pod.blobs()

    answer = await send(pod)

    assert answer.status_code == 200
    assert answer.json() == {
        "file_id": first["file_id"],
        "deduplicated": True,
        **{name: first[name] for name in ("name", "size", "content_type", "sha256", "status_url")},
    }
    assert answer.headers["location"] == first["status_url"]
    assert (await events.one()).file_id == first["file_id"]
    assert pod.blobs() == left


async def test_only_who_asks_for_it_gets_the_earlier_file(
    pod: Service, events: UploadedEvents
) -> None:
    first = await sent(pod)
    for params in ({"deduplicate": "false"}, {}):
        other = await pod.post(content=WORDS, params={"name": "a.txt", **params})
        assert (other.status_code, other.json()["file_id"] != first["file_id"]) == (202, True)
    assert len(await events.all()) == 3


async def test_always_is_for_all_but_who_asks_not_to(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    async with running(settings, deduplicate="always") as service:
        first, second = [await service.post(content=WORDS) for _ in range(2)]
        third = await service.post(content=WORDS, params={"deduplicate": "false"})

    assert second.json()["file_id"] == first.json()["file_id"] != third.json()["file_id"]
    assert len(await events.all()) == 2


async def test_where_nobody_looks_who_asks_for_it_is_told(
    service: Service, events: UploadedEvents
) -> None:
    refused = await send(service)

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert "WAYBILL_DEDUPLICATE" in refused.json()["detail"]
    assert await events.all() == []
    assert service.blobs() == []


async def test_other_content_or_another_type_is_another_file(
    pod: Service, events: UploadedEvents
) -> None:
    files = [await sent(pod), await sent(pod, WORDS + b"!")]
    files.append(await sent(pod, params={"name": "a.csv"}))

    assert len({file["file_id"] for file in files}) == len(await events.all()) == 3


async def test_another_name_is_the_same_file(pod: Service) -> None:
    first = await sent(pod)
    second = await sent(pod, params={"name": "b.txt"})

    assert (second["file_id"], second["name"]) == (first["file_id"], "b.txt")


async def test_nobody_gets_the_file_of_somebody_else(
    looking: UploadSettings, events: UploadedEvents
) -> None:
    known = UploadSettings(**looking.model_dump(exclude=set(JWT)), **JWT)
    people = [token("ada"), token("bob"), token("ada", "globex")]
    async with running(known) as service:
        files = [await sent(service, headers=bearer(who)) for who in people]
        again = [await sent(service, headers=bearer(who)) for who in people]

    assert len({file["file_id"] for file in files}) == len(await events.all()) == 3
    assert [file["file_id"] for file in again] == [file["file_id"] for file in files]


@pytest.fixture
def looking_anywhere(anywhere: UploadSettings) -> UploadSettings:
    return anywhere.model_copy(update={"deduplicate": "asked"})


async def test_another_pod_knows_it_and_one_that_was_restarted(
    looking_anywhere: UploadSettings, events: UploadedEvents
) -> None:
    async with running(looking_anywhere) as one, running(looking_anywhere) as other:
        first = await sent(one)
        assert (await sent(other))["file_id"] == first["file_id"]
    async with running(looking_anywhere) as later:
        assert (await sent(later))["file_id"] == first["file_id"]
    assert len(await events.all()) == 1


async def test_equal_uploads_at_once_are_one_file_or_several_and_never_none(
    looking_anywhere: UploadSettings, events: UploadedEvents
) -> None:
    store = open_blob_store(looking_anywhere)
    async with running(looking_anywhere) as one, running(looking_anywhere) as other:
        together = await asyncio.gather(*(sent(pod) for pod in (one, other) for _ in range(15)))
        afterwards = await sent(one)

    named = {file["file_id"] for file in (*together, afterwards)}
    assert afterwards["deduplicated"]
    assert {event.file_id for event in await events.all()} == named
    stored = await stored_files(store)
    assert stored.keys() == named
    assert await store.get(stored[afterwards["file_id"]]) == WORDS


async def until_new(service: Service, file_id: str) -> dict[str, Any]:
    """Upload until a new file is created, because outcomes arrive through Kafka."""
    async with asyncio.timeout(30):
        while (again := await sent(service))["file_id"] == file_id:
            await asyncio.sleep(0.05)
    return again


@pytest.mark.parametrize("end", [failed(), cancelled(), deleted()], ids=lambda end: end.type.value)
async def test_a_file_that_ended_badly_does_not_count(
    pod: Service, publisher: Publisher, end: StatusEvent
) -> None:
    first = await sent(pod)
    await publisher.publish(about(first["file_id"], end))

    second = await until_new(pod, first["file_id"])

    assert "deduplicated" not in second
    assert (await sent(pod))["file_id"] == second["file_id"]


async def test_a_completed_file_counts(pod: Service, publisher: Publisher) -> None:
    first, other = await sent(pod), await sent(pod, b"other words")
    await publisher.publish(about(first["file_id"], completed()))
    # A later record has been applied, so this one has been too, whatever its partition.
    await publisher.publish(about(other["file_id"], failed()))
    async with asyncio.timeout(30):
        while "deduplicated" in await sent(pod, b"other words"):
            await asyncio.sleep(0.05)

    assert (await sent(pod))["file_id"] == first["file_id"]


async def test_a_file_whose_content_is_gone_does_not_count(pod: Service) -> None:
    first = await sent(pod)
    store = open_blob_store(pod.settings)
    await store.delete((await stored_files(store))[first["file_id"]])

    second = await sent(pod)

    assert "deduplicated" not in second
    assert pod.blob(second["file_id"]) == WORDS


async def test_nothing_stays_of_a_deleted_file(
    settings: UploadSettings,
) -> None:
    alone = settings.model_copy(
        update={"deduplicate": "asked", "topic_prefix": f"{new_file_id()}."}
    )
    await create_topics(alone)
    store = open_blob_store(alone)
    async with Publisher(alone, client_id="tests") as publisher, running(alone) as service:
        gone, kept = await sent(service), await sent(service, b"other words")
        for end in (failed(), deleted()):
            await publisher.publish(about(gone["file_id"], end))
        await until(store, gone["file_id"], is_known=False)

    known = await store.keys("known")
    assert [key for key in known if kept["file_id"] in key] == known
    assert len(known) == 2


async def until(store: BlobStore, file_id: str, *, is_known: bool) -> None:
    """Wait until the index contains the file, or no trace of it."""
    async with asyncio.timeout(30):
        while any(file_id in key for key in await store.keys("known")) != is_known:
            await asyncio.sleep(0.05)


async def test_a_pod_that_was_down_learns_how_files_ended(
    looking: UploadSettings, publisher: Publisher
) -> None:
    async with running(looking) as before:
        first = await sent(before)
    await publisher.publish(about(first["file_id"], failed()))
    async with running(looking) as after:
        assert "deduplicated" not in await until_new(after, first["file_id"])


async def test_one_key_has_one_answer_whatever_is_known_meanwhile(
    pod: Service, events: UploadedEvents
) -> None:
    first = await sent(pod, headers={"Idempotency-Key": '"one"'})
    second = await sent(pod, headers={"Idempotency-Key": '"two"'})
    assert second["deduplicated"]

    for key, answer in (("one", first), ("two", second)):
        assert await sent(pod, headers={"Idempotency-Key": f'"{key}"'}) == answer
    refused = await send(pod, b"other words", headers={"Idempotency-Key": '"two"'})

    assert refused.status_code == 422
    assert pod.blob(first["file_id"]) == WORDS
    assert len(await events.all()) == 1


async def test_a_batch_has_the_files_that_are_new(pod: Service, events: UploadedEvents) -> None:
    first = await sent(pod)
    answer = await pod.send(("a.txt", WORDS), ("b.txt", b"other words"), deduplicate="true")

    assert answer.status_code == 202
    known, new = answer.json()["files"]
    assert (known["file_id"], known["deduplicated"]) == (first["file_id"], True)
    assert new["status"] == "pending"
    told = await events.all()
    assert [event.data.batch_id for event in told if event.file_id == new["file_id"]] == [
        answer.json()["batch_id"]
    ]
    assert len(told) == 2


async def test_without_kafka_nobody_knows_how_a_file_ended_and_none_counts(
    looking: UploadSettings,
) -> None:
    link = KafkaConnection(Publisher(looking, client_id="never started"), "")
    duplicates = Duplicates(settings=looking, blobs=open_blob_store(looking), link=link)
    store = open_blob_store(looking)
    earlier, later = (
        StoredFile(file_id=new_file_id(), name="a", size=1, content_type="text/plain", sha256="0")
        for _ in range(2)
    )
    await store.put(source_key(earlier.file_id), b"a")
    await duplicates.remember(Accepted(files=[earlier], labels={}, batch_id=None), EVERYBODY)

    assert link.unavailable_reason is not None
    assert await duplicates.replaced([later], EVERYBODY) == [later]
    link.unavailable_reason = None
    (known,) = await duplicates.replaced([later], EVERYBODY)
    assert (known.file_id, known.deduplicated) == (earlier.file_id, True)


async def test_the_clients_ask_for_the_earlier_file(pod: Service, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(WORDS)
    url = str(pod.client.base_url).rstrip("/")
    addresses = waybill.Addresses(status=url, upload=url)

    def upload() -> dict[str, Any]:
        with waybill.Client(addresses) as client:
            return client.upload(path, deduplicate=True)

    async with waybill.AsyncClient(addresses) as client:
        first = await client.upload(path, deduplicate=True)
        other = await client.upload(path)
    again = await asyncio.to_thread(upload)

    assert again["deduplicated"]
    assert again["file_id"] == first["file_id"] != other["file_id"]

"""Records that cannot be stored go to the dead letters, and their neighbors do not pay."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from services.status.projection.projection import FileState, Status, fold
from services.status.projector import Projector
from services.status.replay.drift import find_drift
from services.status.replay.replay import replay
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.errors import EventTooLargeError
from shared.events.events import Event, FileDead, StatusEvent, new_file_id
from shared.events.facts import Failure
from shared.events.topics import LIFECYCLE
from shared.kafka.messaging import KafkaRecord
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish
from tests.services.status.records import Record, records
from tests.support.builders import about, completed, processing, progressed, retrying, uploaded

ORDINARY = 60


def with_data(event: Event, **changes: Any) -> bytes:
    """An event as another producer may write it, with data that ours never has."""
    told = json.loads(event.to_json())
    told["data"] |= changes
    return json.dumps(told).encode()


def with_statistics(event: Event, statistics: dict[str, Any]) -> bytes:
    result = json.loads(event.to_json())["data"]["result"]
    return with_data(event, result=result | {"statistics": statistics})


async def letters(client: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(15):
        while True:
            items = (await client.get("/api/admin/dead")).json()["items"]
            if len(items) >= count:
                return list(items)
            await asyncio.sleep(0.05)


class Letters:
    """What a projector puts aside."""

    def __init__(self) -> None:
        self.written: list[FileDead] = []
        self.largest = 10**6

    async def publish(self, letter: FileDead) -> None:
        if len(letter.to_json()) > self.largest:
            raise EventTooLargeError("too large")
        self.written.append(letter)

    @property
    def places(self) -> list[tuple[str, int, int, str]]:
        data = [each.data for each in self.written]
        return [(each.topic, each.partition, each.offset, each.code) for each in data]


def projector_of(store: FileStore, **options: Any) -> tuple[Projector, Letters]:
    letters: Any = Letters()
    return Projector(store, letters, **options), letters


def long_story(events: int, *, size: int) -> list[StatusEvent]:
    """Attempts whose errors say much: more than a document of MongoDB holds."""
    story: list[StatusEvent] = []
    for attempt in range(1, events + 1):
        event = retrying(attempt, time=attempt)
        failure = Failure(code="step_failed", message="x" * size, retryable=True)
        data = event.data.model_copy(update={"error": failure})
        identity = event.id.replace(":1:file", f":{attempt}:file")
        story.append(event.model_copy(update={"data": data, "id": identity}))
    return story


async def test_of_a_file_that_is_too_large_as_much_as_can_be_is_stored_and_its_neighbors_whole(
    store: FileStore,
) -> None:
    projector, letters = projector_of(store)
    neighbors, large = [new_file_id() for _ in range(5)], new_file_id()
    story = long_story(20, size=900_000)
    batch: list[KafkaRecord] = records(large, uploaded(), *story, completed(21))
    for each in neighbors:
        batch += records(each, uploaded(), completed())
    await projector.project(batch)
    found = await store.get_many([*neighbors, large])
    assert {found[each].status for each in neighbors} == {FileState.COMPLETED}
    # Its end is told although some lines before it did not fit.
    assert found[large].status is FileState.COMPLETED
    dead = [offset for _, _, offset, _ in letters.places]
    assert dead
    assert dead == list(range(dead[0], 21))
    assert {code for *_, code in letters.places} == {"unstorable"}
    assert "16MB" in letters.written[0].data.reason
    assert len(found[large].history) == 22 - len(dead)
    # To do the same again, as after a restart, does no harm.
    await Projector(store).project(batch)
    again = await store.get_many([*neighbors, large])
    assert again[large].status is FileState.COMPLETED
    assert {each: again[each] for each in neighbors} == {each: found[each] for each in neighbors}


async def test_what_cannot_be_folded_is_put_aside_and_the_rest_of_its_file_goes_on(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_badly(status: Status | None, events: list[tuple[StatusEvent, int]]) -> Status | None:
        if any(offset == 2 for _, offset in events):
            raise ZeroDivisionError("nobody foresaw it")
        return fold(status, events)

    monkeypatch.setattr("services.status.projector.fold", fold_badly)
    projector, letters = projector_of(store)
    file_id, neighbor = new_file_id(), new_file_id()
    await projector.project(
        records(file_id, uploaded(), processing(), progressed(), completed())
        + records(neighbor, uploaded(), processing())
    )
    found = await store.get_many([file_id, neighbor])
    assert found[file_id].status is FileState.COMPLETED
    assert found[neighbor].status is FileState.PROCESSING
    assert letters.places == [("file.lifecycle", 0, 2, "unstorable")]
    assert "ZeroDivisionError: nobody foresaw it" in letters.written[0].data.reason


async def test_a_document_that_cannot_be_read_holds_up_no_other_and_is_folded_anew_by_a_replay(
    store: FileStore, settings: Settings
) -> None:
    projector, letters = projector_of(store)
    broken, sound = new_file_id(), new_file_id()
    story = uploaded(), processing()
    for file_id in (broken, sound):
        await projector.project(records(file_id, *story))
    with MongoClient[dict[str, Any]](settings.mongodb) as mongodb:
        mongodb[settings.database]["files"].update_one(
            {"_id": broken}, {"$set": {"status": "lost", "position": [9, 9]}}
        )
    other, letters = projector_of(store)
    for file_id in (broken, sound):
        await other.project(records(file_id, completed(), first=2))
    assert letters.places == [("file.lifecycle", 0, 2, "unstorable")]
    assert "cannot be read" in letters.written[0].data.reason
    found = await store.get_many([broken, sound])
    assert {each: status.status for each, status in found.items()} == {sound: FileState.COMPLETED}
    shadow = store.sibling("files_shadow")
    for file_id in (broken, sound):
        await Projector(shadow).project(records(file_id, *story, completed()))

    async def nothing_comes() -> None:
        return None

    drift = await find_drift(store, shadow, nothing_comes, repair=True)
    shadow.close()
    assert list(drift.named) == [broken]
    assert (await store.get_many([broken]))[broken].status is FileState.COMPLETED


async def test_an_error_that_nobody_foresaw_is_told_and_no_later_batch_passes_it(
    client: httpx.AsyncClient,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save, failing = FileStore.save, asyncio.Event()

    async def fail_at_first(store: FileStore, changes: Any) -> set[str]:
        if not failing.is_set() and changes:
            raise ZeroDivisionError("nobody foresaw it")
        return await save(store, changes)

    monkeypatch.setattr(FileStore, "save", fail_at_first)
    first, later = new_file_id(), new_file_id()
    await publish(publisher, first, uploaded(), processing(), completed())
    async with asyncio.timeout(20):
        while "nobody foresaw it" not in caplog.text:
            await asyncio.sleep(0.05)
    message = next(each.message for each in caplog.records if "projector failed" in each.message)
    assert first in message
    assert "file.uploaded:" in message
    assert "@0" in message
    await publish(publisher, later, uploaded(), processing(), completed())
    failing.set()
    async with asyncio.timeout(20):
        while len((await client.get("/api/files?status=completed")).json()["items"]) < 2:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "record",
    [
        Record(b"\xff" * 900_000, b"x" * 900_000, 1),
        Record(b"k\x00\r\n", b"\x00" * 700_000, 2),
        Record(None, b'"\\ud800"', 3),
        Record(b"deep", b"[" * 200_000, 4),
    ],
    ids=["large", "NUL", "surrogate", "deep"],
)
async def test_the_letter_of_any_record_fits_into_kafka_and_can_be_listed(
    client: httpx.AsyncClient, publisher: Publisher, store: FileStore, record: KafkaRecord
) -> None:
    await Projector(store, publisher).project([record])
    (letter,) = await letters(client, 1)
    assert letter["data"]["offset"] == record.offset
    assert letter["data"]["size"] == len(record.value or b"")


async def test_a_letter_that_kafka_finds_too_large_is_written_without_the_payload(
    store: FileStore,
) -> None:
    projector, letters = projector_of(store)
    letters.largest = 5_000
    await projector.project([Record(b"k", b"x" * 10_000, 1)])
    assert [each.data.payload for each in letters.written] == [""]
    assert letters.written[0].data.size == 10_000


@pytest.mark.parametrize("statistics", [{"a\x00b": 1}, {"a": 2**63}], ids=["NUL", "2**63"])
async def test_sixty_files_are_completed_beside_one_whose_result_cannot_be_stored(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    store: FileStore,
    statistics: dict[str, Any],
) -> None:
    settings = status_settings
    ids = [new_file_id() for _ in range(ORDINARY)]
    poison = new_file_id()
    topic = settings.topic_prefix + LIFECYCLE.name
    halves = ids[: ORDINARY // 2], ids[ORDINARY // 2 :]
    for half in halves:
        if half is halves[1]:
            await publish(publisher, poison, uploaded(), processing())
            bad = with_statistics(about(poison, completed()), statistics)
            await publisher.put_back(topic, poison, bad)
        await asyncio.gather(
            *(publish(publisher, each, uploaded(), processing(), completed()) for each in half)
        )
    async with asyncio.timeout(20):
        completed_ones = "/api/files?status=completed&limit=200"
        while len((await client.get(completed_ones)).json()["items"]) < ORDINARY:
            await asyncio.sleep(0.05)
    (letter,) = await letters(client, 1)
    assert letter["file_id"] == poison
    assert letter["data"]["topic"] == topic
    assert letter["data"]["reason"]
    listed = {
        each["file_id"]: each["status"]
        for each in (await client.get("/api/files", params={"limit": 200})).json()["items"]
    }
    assert listed == dict.fromkeys(ids, "completed") | {poison: "processing"}
    # A fresh projector, and a replay, come to the same.
    before = await store.get_many([*ids, poison])
    assert (await replay(settings, verify_only=True)).files == 0
    await store.drop()
    await replay(settings)
    assert await store.get_many([*ids, poison]) == before

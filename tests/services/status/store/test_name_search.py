"""Files are found by a part of their names, in any case and Unicode form, by an index."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from motor.motor_asyncio import AsyncIOMotorClient

from services.status.projection.projection import Status, fold
from services.status.store import name_search
from services.status.store.access import Visibility
from services.status.store.name_indexer import BATCH_SIZE, INTERVAL, PAUSE_FACTOR, pause_after
from services.status.store.name_keys import (
    KEY,
    KEYS,
    LAST,
    NO_KEYS,
    STRIDE,
    folded,
    name_fields,
    windows,
)
from services.status.store.name_keys import by_keys as condition_of
from services.status.store.query import ListCursor, Query, Sort
from services.status.store.store import FileStore
from shared.events.events import StatusEvent, new_file_id
from shared.settings import Settings
from tests.support.builders import about, completed, deleted, processing, uploaded

LETTERS = st.text("ab.é\u0301ÀßΣς漢 \U0001f600", max_size=40)


def found_by_keys(window: str, name: str) -> bool:
    """Evaluate a condition on the keys like MongoDB."""
    keys = name_fields(name)[KEYS]
    ranges = [each[KEYS] for each in condition_of(window)["$or"] if each[KEYS] is not None]
    return any(
        each["$elemMatch"]["$gte"] <= key <= each["$elemMatch"]["$lte"]
        for each in ranges
        for key in keys
    )


@given(LETTERS, st.integers(0, 40), st.integers(1, 40))
def test_the_keys_of_a_name_find_each_of_its_parts(name: str, start: int, length: int) -> None:
    text = folded(name)
    part = text[start : start + length]
    if folded(part) != part:
        return  # Cutting within a character yields another text.
    for window in windows(part):
        assert window in part
        assert found_by_keys(window, name), (window, name_fields(name)[KEYS])


def test_a_part_that_is_too_short_for_the_index_has_no_window() -> None:
    assert list(windows("a" * (STRIDE - 1))) == []
    assert list(windows("a" * STRIDE)) == ["a" * STRIDE]
    assert len(LAST) == KEY


@pytest.mark.parametrize(
    ("one", "other"),
    [("Prüfung", "pru\u0308fung"), ("STRASSE", "straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("Ǆ", "ǆ")],
)
def test_spellings_of_a_name_are_the_same(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_a_long_name_has_a_bounded_number_of_keys() -> None:
    name = "".join(chr(0x4E00 + number) for number in range(255))
    keys = name_fields(name)[KEYS]
    assert len(keys) == 128
    assert found_by_keys(name[-3:], name)


def test_the_end_of_a_name_that_folding_makes_longer_has_keys() -> None:
    name = "ﬃ" * 250 + "x.pdf"
    assert found_by_keys("x.pdf", name)


def named(name: str, *more: StatusEvent, **facts: Any) -> Status:
    file_id = new_file_id()
    events: list[StatusEvent] = [uploaded(name=name, **facts), *more]
    status = fold(None, [(about(file_id, event), place) for place, event in enumerate(events)])
    assert status is not None
    return status


async def names(store: FileStore, part: str, **asked: Any) -> list[str | None]:
    """Return the names on all pages of a search, two files per page."""
    sort = asked.pop("sort", Sort.OLDEST_FIRST)
    found: list[str | None] = []
    after = None
    while True:
        page = await store.find(Query(name=part, **asked), sort=sort, limit=2, after=after)
        found += [status.name for status in page.items]
        if page.next is None:
            return found
        after = ListCursor.from_text(page.next.to_text())


@pytest.fixture(params=["few", "many"])
def number(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the candidates as few, or so many that the search runs in list order."""
    monkeypatch.setattr(name_search, "MAX_NAMED", 2000 if request.param == "few" else -1)


@pytest.mark.usefixtures("number")
async def test_a_file_is_found_by_a_part_of_its_name_in_any_spelling(store: FileStore) -> None:
    given = ["Prüfung 1.pdf", unicodedata.normalize("NFD", "PRÜFUNG 2.pdf"), "report.4", "Straße"]
    files = [named(name, time=place) for place, name in enumerate(given)]
    files += [named("prüfung 3.pdf", deleted()), named("other")]
    await store.save([(None, status) for status in files])
    await store.index_names(limit=4)  # Some have keys, and some have none.
    for part in ("prüf", unicodedata.normalize("NFD", "PRÜF"), "üfung", "r\u00fc", "UNG", "ng "):
        assert await names(store, part) == given[:2], part
        for sort in Sort:
            backwards = sort.descends
            assert await names(store, part, sort=sort) == given[:2][:: -1 if backwards else 1]
    assert await names(store, "STRASSE") == ["Straße"]
    assert await names(store, "rt.4") == ["report.4"]
    assert await names(store, "rt?4") == []
    assert await names(store, "^rep") == []
    assert await names(store, "e") == ["report.4", "Straße", "other"]
    assert await names(store, "no such name, however long it is, and so on") == []


@pytest.mark.usefixtures("number")
async def test_only_the_files_that_may_be_seen_are_found(store: FileStore) -> None:
    owners = [("acme", "ada"), ("acme", "bob"), ("other", "ada")]
    files = [named(f"report {n}", tenant=t, owner=o) for n, (t, o) in enumerate(owners)]
    await store.save([(None, status) for status in files])
    for visible_to, found in (
        (Visibility(tenant="acme", owner="ada"), ["report 0"]),
        (Visibility(tenant="acme"), ["report 0", "report 1"]),
        (Visibility(tenant="nobody"), []),
        (Visibility(everything=True), ["report 0", "report 1", "report 2"]),
    ):
        assert await names(store, "port", visible_to=visible_to) == found


async def test_a_change_of_the_status_keeps_the_keys_of_the_name(store: FileStore) -> None:
    file_id = new_file_id()
    events: list[StatusEvent] = [uploaded(name="Größe.txt"), processing(), deleted()]
    log = [(about(file_id, event), place) for place, event in enumerate(events)]
    states = [fold(None, log[:length]) for length in (1, 2, 3)]
    before: Status | None = None
    for state, found in zip(states, ([file_id], [file_id], []), strict=True):
        assert state is not None
        assert await store.save([(before, state)]) == set()
        if before is None:
            assert await store.index_names(limit=2) == 1
            keys = name_fields("Größe.txt")[KEYS]
        document = await store._files.find_one({"_id": file_id})
        assert document is not None
        assert document.get(KEYS) == (keys if found else None)
        page = await store.find(Query(name="größe"), limit=2, after=None)
        assert [each.file_id for each in page.items] == found
        before = state
    assert await store.index_names(limit=2) == 1
    document = await store._files.find_one({"_id": file_id})
    assert document is not None
    assert (document[KEYS], document.get("name_folded")) == (NO_KEYS, None)


async def test_a_file_gets_its_keys_with_its_end(store: FileStore) -> None:
    ids = [new_file_id(), new_file_id()]
    events: list[StatusEvent] = [uploaded(name="Größe.txt"), processing(), completed()]
    for file_id, first in zip(ids, (2, 3), strict=True):  # at once, or after it was stored
        log = [(about(file_id, event), place) for place, event in enumerate(events)]
        before = fold(None, log[:first])
        after = fold(None, log)
        assert before is not None
        assert after is not None
        await store.save([(None, before)])
        if after != before:
            await store.save([(before, after)])
    for file_id in ids:
        document = await store._files.find_one({"_id": file_id})
        assert document is not None
        assert document[KEYS] == name_fields("Größe.txt")[KEYS]
    assert await store.index_names(limit=9) == 0


async def test_a_file_that_may_soon_end_is_left_without_keys(store: FileStore) -> None:
    await store.save([(None, named("young.txt"))])
    assert await store.index_names(limit=9, older_than=3600) == 0
    assert await names(store, "young") == ["young.txt"]
    assert await store.index_names(limit=9, older_than=-3600) == 1


async def test_a_name_that_was_erased_meanwhile_gets_no_keys(store: FileStore) -> None:
    """The deletion comes between the loop's read of the name and its write."""
    file_id = new_file_id()
    events: list[StatusEvent] = [uploaded(name="secret.txt"), deleted()]
    log = [(about(file_id, event), place) for place, event in enumerate(events)]
    present, gone = fold(None, log[:1]), fold(None, log)
    assert present is not None
    assert gone is not None
    await store.save([(None, present)])
    late = store._names._indexed({"_id": file_id, "name": "secret.txt"})
    await store.save([(present, gone)])
    await store._files.bulk_write([late])
    document = await store._files.find_one({"_id": file_id})
    assert document is not None
    assert "secret" not in str(document)


async def test_pods_that_index_the_same_names_write_each_document_once(
    store: FileStore, settings: Settings
) -> None:
    await store.save([(None, named(f"report {number}")) for number in range(60)])
    pods = [store, *(FileStore(settings) for _ in range(3))]
    written = await asyncio.gather(*(pod.index_names(limit=60) for pod in pods))
    for pod in pods[1:]:
        pod.close()
    assert sum(written) == 60
    assert await store._files.count_documents({KEYS: None}) == 0
    assert len(await names(store, "report")) == 60


def test_of_pods_that_index_the_same_names_one_goes_on_and_the_others_step_back() -> None:
    assert pause_after(BATCH_SIZE, took=0.1) == PAUSE_FACTOR * 0.1
    assert pause_after(BATCH_SIZE // 2 + 1, took=0.1) == PAUSE_FACTOR * 0.1
    for few in (0, BATCH_SIZE // 2):
        assert pause_after(few, took=0.1) == INTERVAL
        assert pause_after(few, took=10.0) == PAUSE_FACTOR * 10.0


@pytest.mark.usefixtures("number")
async def test_documents_without_keys_are_found_and_given_them(store: FileStore) -> None:
    old = [named("Prüfung.pdf"), named(unicodedata.normalize("NFD", "prüfung"))]
    await store.save([(None, status) for status in old])
    nameless = fold(None, [(about(new_file_id(), processing()), 0)])
    assert nameless is not None
    await store.save([(None, nameless)])
    found = [status.name for status in old]
    for part in ("prüf", unicodedata.normalize("NFD", "PRÜF")):
        assert await names(store, part) == found
    assert await store.index_names(limit=2) == 2
    assert await names(store, "prüf") == found
    assert await store.index_names(limit=2) == 1
    assert await store.index_names(limit=2) == 0
    assert await names(store, "ÜFUNG") == found
    assert await store._files.count_documents({KEYS: None}) == 0


@pytest.fixture
async def profiled(settings: Settings) -> AsyncIterator[Any]:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(settings.mongodb)
    yield client[settings.database]
    client.close()


async def test_the_search_reads_only_what_the_index_finds(store: FileStore, profiled: Any) -> None:
    files = [named(f"report {number:03}.pdf", time=number) for number in range(200)]
    await store.save([(None, status) for status in files])
    assert await store.index_names(limit=500) == 200
    await profiled.command("profile", 2)
    assert await names(store, "rt 123") == ["report 123.pdf"]
    await profiled.command("profile", 0)
    seen = [each async for each in profiled["system.profile"].find({"ns": store._files.full_name})]
    plans = {each["planSummary"] for each in seen}
    assert any("name_keys" in plan for plan in plans)
    assert not any("COLLSCAN" in plan for plan in plans)
    # Parts of three numbers, "123" and "23", begin at either of two places.
    assert max(each["docsExamined"] for each in seen) <= 20


async def test_files_without_a_name_are_not_read_again_and_again(
    store: FileStore, profiled: Any
) -> None:
    deleted_ones = [named("gone.txt", deleted()) for _ in range(30)]
    await store.save([(None, status) for status in [*deleted_ones, named("here.txt")]])
    assert await store.index_names(limit=500) == 31
    await profiled.command("profile", 2)
    assert await store.index_names(limit=500) == 0
    assert await names(store, "here") == ["here.txt"]
    await profiled.command("profile", 0)
    seen = [each async for each in profiled["system.profile"].find({"ns": store._files.full_name})]
    assert sum(each.get("docsExamined", 0) for each in seen) <= 6

"""Without MongoDB, files in the tail are found, and requests for new ids wait for the tail."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from services.status.api import batches, files
from services.status.live import hub as hub_module
from services.status.live.cursor import TOPICS, Partition
from services.status.live.document_reader import MAX_UNSTORED
from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.live.overlay import Observed
from services.status.projection.projection import FileState, Status, fold
from services.status.store.access import EVERYTHING
from shared.errors import MongoUnavailableError, UnknownFileError
from shared.events.events import first_file_id, new_file_id, utc_now
from shared.events.topics import UPLOADED
from tests.support.builders import about, uploaded

UPLOADS = Partition(TOPICS.index(UPLOADED), 3)

Answer = Callable[[], Coroutine[Any, Any, Any]]


async def refused() -> None:
    raise MongoUnavailableError("MongoDB does not answer: refused")


async def hanging() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    return None


class Store:
    """A MongoDB stand-in with configurable responses."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked = asyncio.Event()

    async def _ask(self, *_: object) -> Any:
        self.asked.set()
        return await self._answer()

    get = get_many = counts_of = _ask


class Outbox:
    """An outbox that contains one upload."""

    is_active = True

    def __init__(self, waiting: Status) -> None:
        self._waiting = waiting

    async def find(self, file_id: str) -> Status | None:
        return self._waiting if file_id == self._waiting.file_id else None


def a_hub(answer: Answer) -> tuple[Hub, Store]:
    store = Store(answer)
    hub = Hub(store, max_subscribers=10, max_per_client=10)  # type: ignore[arg-type]
    hub.begin({UPLOADS: 0}, utc_now() - timedelta(seconds=60))
    return hub, store


async def bring(hub: Hub, *file_ids: str, batch_id: str | None = None) -> None:
    """Feed the uploads of these files to the hub."""
    await hub.observe(
        [
            Observed(about(file_id, uploaded(batch_id=batch_id)), UPLOADS, 3, offset)
            for offset, file_id in enumerate(file_ids)
        ],
        {},
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "YOUNG_WAIT", 30.0)


@pytest.mark.parametrize("answer", [refused, hanging, nothing])
async def test_a_young_id_is_known_once_the_tail_brings_it(answer: Answer) -> None:
    hub, store = a_hub(answer)
    file_id = new_file_id()
    finding = asyncio.create_task(files.find(hub, file_id, EVERYTHING))
    await store.asked.wait()
    await asyncio.sleep(0)
    assert not finding.done()
    await bring(hub, file_id)
    async with asyncio.timeout(20):
        assert (await finding).status.status is FileState.PENDING


async def test_a_young_id_that_nothing_brings_is_answered_by_what_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "YOUNG_WAIT", 0.01)
    with pytest.raises(MongoUnavailableError):
        await files.find(a_hub(refused)[0], new_file_id(), EVERYTHING)
    with pytest.raises(UnknownFileError):
        await files.find(a_hub(nothing)[0], new_file_id(), EVERYTHING)


async def test_an_old_id_is_not_waited_for() -> None:
    old = first_file_id(utc_now() - timedelta(hours=1))
    with pytest.raises(MongoUnavailableError):
        await files.find(a_hub(refused)[0], old, EVERYTHING)


async def test_a_file_that_waits_in_the_outbox_is_known() -> None:
    hub, _ = a_hub(refused)
    file_id = new_file_id()
    waiting = fold(None, [(about(file_id, uploaded()), 0)])
    assert waiting is not None
    hub.outbox = Outbox(waiting)
    assert (await files.find(hub, file_id, EVERYTHING)).status == waiting


async def test_a_batch_of_which_the_tail_brings_every_upload_is_counted() -> None:
    hub, store = a_hub(refused)
    members = [new_file_id() for _ in range(3)]
    batch_id = new_file_id()
    reading = asyncio.create_task(batches.read_batch(batch_id, store, hub, EVERYTHING))  # type: ignore[arg-type]
    await store.asked.wait()
    await bring(hub, *members, batch_id=batch_id)
    async with asyncio.timeout(20):
        assert (await reading).files[FileState.PENDING] == 3


async def test_a_stream_of_a_young_id_begins_and_tells_it_once_the_tail_brings_it() -> None:
    hub, _ = a_hub(refused)
    file_id, old = new_file_id(), first_file_id(utc_now() - timedelta(hours=1))
    with hub.subscribe(Filter(ids=frozenset({file_id}), visible_to=EVERYTHING)) as subscription:
        assert await hub.snapshot(subscription) == ([], True)
        await bring(hub, file_id)
        assert [each.status.file_id for each in await subscription.wait(20.0)] == [file_id]
    with (
        hub.subscribe(Filter(ids=frozenset({old}), visible_to=EVERYTHING)) as subscription,
        pytest.raises(MongoUnavailableError),
    ):
        await hub.snapshot(subscription)


async def test_a_part_of_a_batch_does_not_pass_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "YOUNG_WAIT", 0.01)

    async def refuses(hub: Hub, batch_id: str) -> None:
        with pytest.raises(MongoUnavailableError):
            await batches.read_batch(batch_id, Store(refused), hub, EVERYTHING)  # type: ignore[arg-type]

    # The batch is older than the tail.
    hub, _ = a_hub(refused)
    before = first_file_id(utc_now() - timedelta(hours=1))
    await bring(hub, new_file_id(), batch_id=before)
    await refuses(hub, before)
    # A file's own id is older than the tail, so its upload was set aside.
    hub, _ = a_hub(refused)
    young = new_file_id()
    await bring(hub, before, new_file_id(), batch_id=young)
    await refuses(hub, young)
    # A file of the batch was dropped from memory.
    monkeypatch.setattr("services.status.live.overlay.MAX_HELD", 1)
    hub, _ = a_hub(no_documents)
    dropped = new_file_id()
    await bring(hub, new_file_id(), new_file_id(), batch_id=dropped)
    await refuses(hub, dropped)


@pytest.mark.parametrize(
    ("unstored", "most", "held"),
    [(None, 99, 1), (0, 99, 1), (MAX_UNSTORED, 99, 1), (10_000, 99, 4), (10_000, 3, 1)],
)
async def test_nothing_is_dropped_that_a_projector_which_lags_has_not_stored(
    monkeypatch: pytest.MonkeyPatch, *, unstored: int | None, most: int, held: int
) -> None:
    monkeypatch.setattr("services.status.live.overlay.MAX_HELD", 1)
    monkeypatch.setattr(hub_module, "MAX_HELD_MEANWHILE", most)
    hub, _ = a_hub(no_documents)
    hub.unstored = lambda: unstored
    files_of_tail = [new_file_id() for _ in range(4)]
    await bring(hub, *files_of_tail)
    await hub.observe([], {})
    assert sum(hub.held(each, EVERYTHING) is not None for each in files_of_tail) == held


async def no_documents() -> dict[str, Status]:
    return {}

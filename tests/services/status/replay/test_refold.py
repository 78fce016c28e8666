"""A refold repairs a document only if the log contains everything the document does."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.status.projection.projection import Status, fold
from services.status.replay.refold import ABANDONED_AFTER, SHADOW_PREFIX, Refold, Refolder
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.errors import KafkaUnavailableError
from shared.events.events import StatusEvent, first_file_id, new_file_id, utc_now
from shared.kafka.messaging import KafkaRecord
from shared.kafka.publishing import Publisher
from tests.services.status.records import records
from tests.support.builders import about, completed, deleted, failed, processing, requeued, uploaded

FILE = new_file_id()
FIRST_RUN = uploaded(), processing(), failed()
STORY = (*FIRST_RUN, requeued(2), completed(run=2, time=60))


def status_of(*events: StatusEvent) -> Status:
    status = fold(None, [(about(FILE, event), offset) for offset, event in enumerate(events)])
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("live", "log"),
    [
        (STORY, STORY[3:]),
        ((*STORY, deleted()), STORY),
        (STORY, (*STORY, deleted())),
        (STORY, STORY[:4]),
        (STORY, STORY[1:3]),
    ],
    ids=["later run alone", "undeleted", "deleted", "behind", "without the upload"],
)
def test_a_document_that_knows_more_than_what_was_read_is_left_alone(
    live: Sequence[StatusEvent], log: Sequence[StatusEvent]
) -> None:
    assert not Refold(status_of(*live), status_of(*log)).may_repair


def test_a_document_that_knows_less_is_mended() -> None:
    assert Refold(status_of(*STORY[:3]), status_of(*STORY)).may_repair
    assert Refold(None, status_of(*STORY)).may_repair
    forged = status_of(*STORY).model_copy(update={"name": "forged"})
    assert Refold(forged, status_of(*STORY)).may_repair


async def shadows_of(store: FileStore) -> list[str]:
    names = await store._files.database.list_collection_names()
    return [name for name in names if name.startswith(SHADOW_PREFIX)]


async def test_a_refold_that_fails_leaves_no_collection_behind(
    status_settings: StatusSettings,
    store: FileStore,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refolder = Refolder(status_settings, store, publisher)
    abandoned = store.sibling(SHADOW_PREFIX + first_file_id(utc_now() - 2 * ABANDONED_AFTER))
    recent = store.sibling(SHADOW_PREFIX + first_file_id(utc_now() - timedelta(minutes=1)))
    for each in (abandoned, recent):
        await each.save([(None, status_of(uploaded()))])
    found: list[KafkaRecord] = records(FILE, uploaded())

    async def read(_: object) -> list[KafkaRecord]:
        return found

    async def fail(_: object, __: object) -> None:
        raise KafkaUnavailableError

    monkeypatch.setattr(refolder, "_records", read)
    assert list(await refolder.refold({FILE: utc_now()})) == [FILE]
    assert await shadows_of(store) == [recent.name]
    monkeypatch.setattr(FileStore, "get_many", fail)
    with pytest.raises(KafkaUnavailableError):
        await refolder.refold({FILE: utc_now()})
    assert await shadows_of(store) == [recent.name]
    abandoned.close()
    recent.close()

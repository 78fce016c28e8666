"""The auditor finds documents that differ from the log, and stuck files."""

import asyncio

import httpx
import pytest

from services.status.monitoring.queue_stats import QueueStats, Sample
from services.status.projection.projection import FileState
from services.status.replay.auditor import Auditor
from services.status.replay.refold import Refolder
from services.status.replay.replay import replay
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.events.events import new_file_id, utc_now
from shared.events.topics import DEAD, PARTITIONS
from shared.kafka.publishing import Publisher, partition_of_key
from shared.telemetry import AUDITED
from tests.services.status.asking import publish, wait_for
from tests.services.status.test_poison import long_story
from tests.support.builders import (
    START,
    about,
    completed,
    failed,
    processing,
    requeued,
    uploaded,
)
from tests.support.consuming import consume


def audited(outcome: str) -> float:
    return float(AUDITED.labels(outcome=outcome)._value.get())


async def audit_all(auditor: Auditor) -> None:
    await asyncio.gather(*(auditor.audit(partition) for partition in range(PARTITIONS)))


async def test_documents_that_are_not_what_the_log_says_are_found(
    status_settings: StatusSettings,
    store: FileStore,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, forged, behind, lost, under_way = (new_file_id() for _ in range(5))
    for file_id in (good, forged, behind):
        await publish(publisher, file_id, uploaded(), processing(), completed())
    await publish(publisher, lost, uploaded(), processing(), failed())
    await publish(publisher, under_way, uploaded(), processing())
    await replay(status_settings)
    auditor = Auditor(status_settings, store, QueueStats())
    await audit_all(auditor)
    assert (auditor.findings.compared, list(auditor.findings.drifted)) == (5, [])

    async def change(file_id: str, **facts: object) -> None:
        read = await store.get(file_id)
        assert read is not None
        await store.save([(read, read.model_copy(update=facts))])

    await change(forged, name="forged.pdf", size=1)
    await change(behind, status=FileState.PROCESSING, result=None, finished_at=None)
    await store._files.delete_one({"_id": lost})
    monkeypatch.setattr("services.status.replay.auditor.SETTLING", 0.01)
    before = [audited(outcome) for outcome in ("equal", "different", "missing")]
    await audit_all(auditor)
    after = [audited(outcome) for outcome in ("equal", "different", "missing")]
    assert [now - then for then, now in zip(before, after, strict=True)] == [2, 2, 1]
    assert {file.file_id: file.fields for file in auditor.findings.drifted} == {
        forged: ["name", "size"],
        behind: ["finished_at", "result", "status"],
        lost: [],
    }


async def test_what_has_drifted_is_folded_anew_and_put_right(
    status_settings: StatusSettings,
    store: FileStore,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = forged, lost, behind, broken, again, good = [new_file_id() for _ in range(6)]
    for file_id in (forged, lost, behind, broken, good):
        await publish(publisher, file_id, uploaded(), processing(), completed())
    await publish(publisher, again, uploaded(), failed(), about(again, requeued(2)))
    await publish(publisher, again, about(again, completed(run=2, time=60)))
    await replay(status_settings)
    right = await store.get_many(ids)
    monkeypatch.setattr("services.status.replay.auditor.SETTLING", 0.01)
    auditor = Auditor(
        status_settings, store, QueueStats(), Refolder(status_settings, store, publisher)
    )
    await audit_all(auditor)
    assert (auditor.findings.repaired, list(auditor.findings.drifted)) == (0, [])
    for file_id in (forged, again):
        changed = right[file_id].model_copy(update={"name": "forged.pdf"})
        await store.save([(right[file_id], changed)])
    began = right[behind].model_copy(update={"status": FileState.PROCESSING, "result": None})
    await store.save([(right[behind], began)])
    await store._files.delete_one({"_id": lost})
    await store._files.update_one({"_id": broken}, {"$set": {"status": "nonsense"}})
    before = audited("mended")
    await audit_all(auditor)
    assert audited("mended") - before == auditor.findings.repaired == 5
    assert {each.file_id: each.mended for each in auditor.findings.drifted} == dict.fromkeys(
        (forged, lost, behind, broken, again), True
    )
    assert await store.get_many(ids) == right
    await audit_all(auditor)
    assert auditor.findings.repaired == 5
    names = await store._files.database.list_collection_names()
    assert not [name for name in names if "refold" in name]


async def test_an_upload_by_a_clock_that_is_ahead_is_no_drift_and_is_mended(
    status_settings: StatusSettings,
    store: FileStore,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_id = new_file_id()
    ahead = (utc_now() - START).total_seconds() + 3000
    upload, begun = uploaded(time=ahead), processing(time=ahead + 1)
    await publish(publisher, file_id, upload, begun, completed(time=ahead + 2))
    await replay(status_settings)
    right = await store.get(file_id)
    assert right is not None
    monkeypatch.setattr("services.status.replay.auditor.SETTLING", 0.01)
    auditor = Auditor(
        status_settings, store, QueueStats(), Refolder(status_settings, store, publisher)
    )
    await auditor.audit(partition_of_key(file_id))
    assert (auditor.findings.compared, list(auditor.findings.drifted)) == (1, [])
    await store.save([(right, right.model_copy(update={"name": "forged.pdf"}))])
    await auditor.audit(partition_of_key(file_id))
    assert auditor.findings.repaired == 1
    assert await store.get(file_id) == right


async def test_what_cannot_be_stored_is_put_aside_once_by_whoever_mends(
    status_settings: StatusSettings,
    store: FileStore,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), *long_story(20, size=900_000), completed(21))
    monkeypatch.setattr("services.status.replay.auditor.SETTLING", 0.01)
    auditor = Auditor(
        status_settings, store, QueueStats(), Refolder(status_settings, store, publisher)
    )
    for _ in range(2):
        await auditor.audit(partition_of_key(file_id))
    found = await store.get(file_id)
    assert found is not None
    assert found.status is FileState.COMPLETED
    # For the auditor, the projector skipped this file: the rejected record is dead-lettered once.
    letters = await consume(status_settings, DEAD, 21 - (len(found.history) - 1))
    assert {letter.file_id for letter in letters} == {file_id}
    assert auditor.findings.repaired == 1


async def test_files_that_do_not_go_on_are_listed_longest_silent_first(
    status_settings: StatusSettings, store: FileStore, publisher: Publisher
) -> None:
    waiting, abandoned, ended, long = (new_file_id() for _ in range(4))
    await publish(publisher, waiting, uploaded())
    await publish(publisher, abandoned, uploaded(), processing())
    await publish(publisher, long, uploaded(), processing(time_limit=1e9))
    await publish(publisher, ended, uploaded(), processing(), completed())
    await replay(status_settings)
    queue_stats = QueueStats()
    now = utc_now().timestamp()
    for ago in (40, 0):
        counts = dict.fromkeys(FileState, 0) | {FileState.PENDING: 1}
        queue_stats.note(Sample(at=now - ago, arrived=3, retrying=0, files=counts))
    found = await Auditor(status_settings, store, queue_stats).stuck()
    assert [file.file_id for file in found] == [waiting, abandoned]
    assert "no processor runs" in found[0].reason
    assert "its pod is gone" in found[1].reason


async def test_what_is_stuck_and_what_has_drifted_is_answered(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing())
    await wait_for(client, file_id, "processing")
    async with asyncio.timeout(10):
        while [
            (each["file_id"], each["status"])
            for each in (await client.get("/api/admin/stuck")).json()["items"]
        ] != [(file_id, "processing")]:
            await asyncio.sleep(0.05)
    assert (await client.get("/api/admin/audit")).json() == {
        "compared": 0,
        "mended": 0,
        "drifted": [],
    }

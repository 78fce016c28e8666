"""The auditor notices documents that are not what the log says, and files that are stuck."""

import asyncio

import httpx
import pytest

from services.status.auditor import Auditor
from services.status.projection import State
from services.status.replay import replay
from services.status.settings import StatusSettings
from services.status.store import FileStore
from services.status.traffic import Look, Traffic
from shared.events import new_file_id, utc_now
from shared.publishing import Publisher
from shared.telemetry import AUDITED
from shared.topics import PARTITIONS
from tests.services.status.asking import publish, wait_for
from tests.support.builders import completed, failed, processing, uploaded


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
    auditor = Auditor(status_settings, store, Traffic())
    await audit_all(auditor)
    assert (auditor.findings.compared, list(auditor.findings.drifted)) == (5, [])

    async def change(file_id: str, **facts: object) -> None:
        read = await store.get(file_id)
        assert read is not None
        await store.save([(read, read.model_copy(update=facts))])

    await change(forged, name="forged.pdf", size=1)
    await change(behind, status=State.PROCESSING, result=None, finished_at=None)
    await store._files.delete_one({"_id": lost})
    monkeypatch.setattr("services.status.auditor.SETTLING", 0.01)
    before = [audited(outcome) for outcome in ("equal", "different", "missing")]
    await audit_all(auditor)
    after = [audited(outcome) for outcome in ("equal", "different", "missing")]
    assert [now - then for then, now in zip(before, after, strict=True)] == [2, 2, 1]
    assert {file.file_id: file.fields for file in auditor.findings.drifted} == {
        forged: ["name", "size"],
        behind: ["finished_at", "result", "status"],
        lost: [],
    }


async def test_files_that_do_not_go_on_are_listed_longest_silent_first(
    status_settings: StatusSettings, store: FileStore, publisher: Publisher
) -> None:
    waiting, abandoned, ended, long = (new_file_id() for _ in range(4))
    await publish(publisher, waiting, uploaded())
    await publish(publisher, abandoned, uploaded(), processing())
    await publish(publisher, long, uploaded(), processing(time_limit=1e9))
    await publish(publisher, ended, uploaded(), processing(), completed())
    await replay(status_settings)
    traffic = Traffic()
    now = utc_now().timestamp()
    for ago in (40, 0):
        counts = dict.fromkeys(State, 0) | {State.PENDING: 1}
        traffic.note(Look(at=now - ago, arrived=3, retrying=0, files=counts))
    found = await Auditor(status_settings, store, traffic).stuck()
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
    assert (await client.get("/api/admin/audit")).json() == {"compared": 0, "drifted": []}

"""The whole way of a file, through the stack that `waybill up` starts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pymongo
import pytest
import websockets

from tests.support.journey import TERMINAL, Traveller
from tests.support.stack import RunningStack
from waybill.samples import corrupt_pdf, sample_files


@pytest.fixture
async def traveller(stack: RunningStack) -> AsyncIterator[Traveller]:
    traveller = Traveller(stack)
    yield traveller
    await traveller.close()


SAMPLES = {
    sample.name: sample
    for sample in sample_files()
    if not sample.content_type.endswith("demo+json")
}


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_document_ends_completed_with_its_text_as_seen_over_sse(
    traveller: Traveller, name: str
) -> None:
    sample = SAMPLES[name]
    answer = await traveller.upload(name, sample.content, sample.content_type)
    assert answer.status_code == 202, answer.text
    file_id = answer.json()["file_id"]
    assert answer.json()["status"] == "pending"
    assert answer.headers["location"] == (
        f"{traveller.stack.status_url}/api/files/{file_id}/process/status"
    )
    documents = [document async for document in traveller.stream(file_id)]
    last = documents[-1]
    assert last["status"] == "completed", last["error"]
    assert last["name"] == name
    assert last["size"] == len(sample.content)
    assert last["result"]["statistics"]["words"] > 0
    assert "text.txt" in [artifact["name"] for artifact in last["result"]["artifacts"]]
    text = await traveller.http.get(
        f"{traveller.stack.status_url}/api/files/{file_id}/artifacts/text.txt"
    )
    assert text.status_code == 200
    assert text.text.strip()


async def test_a_websocket_sees_a_file_through_to_its_end(traveller: Traveller) -> None:
    address = traveller.stack.status_url.replace("http", "ws") + "/api/ws"
    async with websockets.connect(address) as socket:
        await socket.send('{"type": "subscribe"}')
        assert json.loads(await socket.recv())["type"] == "subscribed"
        file_id = await traveller.upload_demo(seconds=1, steps=4)
        seen: list[str] = []
        while not seen or seen[-1] not in TERMINAL:
            message = json.loads(await asyncio.wait_for(socket.recv(), 30))
            if message.get("status", {}).get("file_id") == file_id:
                seen.append(message["status"]["status"])
    assert list(dict.fromkeys(seen)) == ["pending", "processing", "completed"]


async def test_a_binary_of_300_mb_is_stored_whole_and_completes(
    traveller: Traveller, tmp_path: Path
) -> None:
    path = tmp_path / "large.bin"
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(300):
            file.write(block)
    answer = await traveller.upload("large.bin", path, "application/octet-stream")
    assert answer.status_code == 202
    assert answer.json()["size"] == 300 << 20
    done = await traveller.wait(answer.json()["file_id"])
    assert done["status"] == "completed", done["error"]


async def test_an_empty_file_is_refused_with_a_clear_problem(traveller: Traveller) -> None:
    answer = await traveller.upload("empty.txt", b"", "text/plain")
    assert answer.status_code == 422
    assert answer.json()["code"] == "empty_file"


async def test_a_corrupt_pdf_fails_for_good_with_its_reason(traveller: Traveller) -> None:
    answer = await traveller.upload("broken.pdf", corrupt_pdf().content, "application/pdf")
    failed = await traveller.wait(answer.json()["file_id"])
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "corrupt_document"
    assert failed["error"]["retryable"] is False
    assert failed["attempt"] == 1


async def test_a_name_with_a_path_in_it_is_a_name_and_no_path(traveller: Traveller) -> None:
    answer = await traveller.upload("../../etc/passwd", b"root:x:0:0", "text/plain")
    done = await traveller.wait(answer.json()["file_id"])
    assert done["status"] == "completed", done["error"]
    assert done["name"].endswith("passwd")
    source = await traveller.http.get(
        f"{traveller.stack.status_url}/api/files/{done['file_id']}/source"
    )
    assert source.content == b"root:x:0:0"


async def test_a_long_file_delays_neither_an_upload_nor_another_file(traveller: Traveller) -> None:
    long = await traveller.upload_demo(seconds=15, steps=5)
    await traveller.wait_until(long, "processing")
    quick = [await traveller.upload_demo() for _ in range(20)]
    for file_id in quick:
        assert (await traveller.wait(file_id))["status"] == "completed"
    assert (await traveller.status(long))["status"] == "processing"


async def test_a_running_file_that_is_cancelled_ends_cancelled(traveller: Traveller) -> None:
    file_id = await traveller.upload_demo(seconds=60, steps=60)
    await traveller.wait_until(file_id, "processing")
    asked = await traveller.http.post(
        f"{traveller.stack.status_url}/api/files/{file_id}/cancel", params={"reason": "too long"}
    )
    assert asked.status_code == 202, asked.text
    ended = await traveller.wait(file_id, seconds=20)
    assert ended["status"] == "cancelled"
    assert [(line["type"], line["message"]) for line in ended["history"]] == [
        ("file.uploaded", None),
        ("file.processing", None),
        ("file.cancelled", "too long"),
    ]


async def test_a_file_that_failed_is_worked_on_again_as_its_second_run(
    traveller: Traveller,
) -> None:
    file_id = await traveller.upload_demo(then="fail")
    await traveller.wait(file_id)
    asked = await traveller.http.post(f"{traveller.stack.status_url}/api/files/{file_id}/retry")
    assert (asked.status_code, asked.json()["run"]) == (202, 2)
    ended = await traveller.wait(file_id)
    assert (ended["status"], ended["run"], ended["attempt"]) == ("failed", 2, 1)
    assert [(line["run"], line["type"]) for line in ended["history"]] == [
        (1, "file.uploaded"),
        (1, "file.processing"),
        (1, "file.failed"),
        (2, "file.requeued"),
        (2, "file.processing"),
        (2, "file.failed"),
    ]


async def test_a_file_whose_processor_is_killed_is_completed_at_the_second_attempt(
    traveller: Traveller,
) -> None:
    file_id = await traveller.upload_demo(seconds=4, steps=8)
    await traveller.wait_until(file_id, "processing")
    for pid in traveller.stack.pids["processor"]:
        os.kill(pid, signal.SIGKILL)
    done = await traveller.wait(file_id)
    assert (done["status"], done["attempt"]) == ("completed", 2)
    assert [line["type"] for line in done["history"]] == [
        "file.uploaded",
        "file.processing",
        "file.retrying",
        "file.processing",
        "file.completed",
    ]
    assert done["history"][2]["code"] == "worker_crashed"


async def test_a_dropped_collection_is_rebuilt_from_the_log_field_by_field(
    traveller: Traveller,
) -> None:
    for spec in ({}, {"then": "fail"}, {"then": "retry"}):
        await traveller.wait(await traveller.upload_demo(**spec))
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(traveller.stack.mongodb)
    files = client["waybill"]["files"]
    before = await _settled(files)
    files.drop()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "waybill", "replay", "--dir", str(traveller.stack.folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "matches the log" in done.stdout
    assert await _settled(files) == before
    client.close()


async def _settled(files: pymongo.collection.Collection[dict[str, object]]) -> list[object]:
    """The documents, once the projector has stored all that the log says, what is deleted is
    erased, which a replay has done once more, and names have their keys for the search.
    """
    unsettled: list[dict[str, object]] = [
        {"status": {"$nin": sorted(TERMINAL)}},
        {"to_erase": True},
        {"name": {"$type": "string"}, "name_keys": None},
    ]
    async with asyncio.timeout(30):
        while files.count_documents({"$or": unsettled}):
            await asyncio.sleep(0.2)
    return list(files.find().sort("_id"))

"""Ids are accepted in upper case everywhere; responses use lower case."""

import asyncio
import json

import httpx
import websockets

from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, status_path, wait_for
from tests.services.status.live.test_live import opening, sse_messages, ws_messages, ws_url
from tests.support.builders import uploaded


async def test_an_id_in_capital_letters_is_the_same(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id, batch_id = new_file_id(), new_file_id()
    upper, batch = file_id.upper(), batch_id.upper()
    await publish(publisher, file_id, uploaded(batch_id=batch_id))
    await wait_for(client, upper, "pending")
    for path in ("", "/process/status", "/process/status?wait=0.01", "/events", "/shares"):
        answer = await client.get(f"/api/files/{upper}{path}")
        assert answer.status_code == 200, answer.text
        assert answer.json().get("file_id", file_id) == file_id
    async with asyncio.timeout(20):  # Lists lag slightly.
        while not (listed := (await client.get(f"/api/files?batch_id={batch}")).json()["items"]):
            await asyncio.sleep(0.05)
    assert listed[0]["file_id"] == file_id
    assert (await client.get(f"/api/batches/{batch}")).json()["batch_id"] == batch_id
    for wanted in ({"ids": upper}, {"batch_id": batch}):
        async with client.stream("GET", "/api/stream", params=wanted) as response:
            told = await opening(sse_messages(response))
        assert [each["status"]["file_id"] for each in told if each["type"] == "status"] == [file_id]
        async with websockets.connect(ws_url(client)) as connection:
            asked = {"ids": [upper]} if "ids" in wanted else wanted
            await connection.send(json.dumps({"type": "subscribe", **asked}))
            told = await opening(ws_messages(connection))
        assert [each["status"]["file_id"] for each in told if each["type"] == "status"] == [file_id]
    for files in ({"ids": [upper]}, {"batch_id": batch}):
        order = {"action": "cancel", "files": files}
        answer = await client.post("/api/files/bulk", json=order)
        assert [item["file_id"] for item in answer.json()["items"]] in ([file_id], [])
    assert (await client.delete(f"/api/files/{upper}")).status_code == 202


async def test_other_spellings_name_nothing(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded())
    await wait_for(client, file_id, "pending")
    for spelling in (f"{{{file_id}}}", f"urn:uuid:{file_id}", file_id.replace("-", "")):
        answer = await client.get(status_path(spelling))
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_file")

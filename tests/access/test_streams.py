"""Streams contain only files that the caller may read, and end when the token expires."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from services.status.api import files
from services.status.api.messages import CloseCode
from shared.auth import apikeys
from shared.auth.apikeys import new_key
from shared.auth.auth import LEEWAY
from shared.events.events import new_file_id
from tests.access.installation import (
    RUNNING,
    STORED,
    UNKNOWN,
    Installation,
    ours,
    running,
    settings_of,
    without_id,
)
from tests.access.people import EVERYBODY, SEES, WHO, WITHOUT, bearer, token
from tests.support.builders import processing, shared
from waybill.local.parts import Parts

Updates = AsyncIterator[dict[str, Any]]
Stream = Callable[[Installation, str, dict[str, Any]], AbstractAsyncContextManager[Updates]]

ENDS_SOON = 1.5 - LEEWAY
"""Lifetime in seconds of a token that is rejected 1.5 s after its creation."""


@pytest.fixture(scope="module")
async def installation(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    settings = settings_of(parts, tmp_path_factory.mktemp("blobs"), "access-streams")
    async with running(settings) as started:
        yield started


@asynccontextmanager
async def over_sse(
    installation: Installation, credential: str, wanted: dict[str, Any]
) -> AsyncIterator[Updates]:
    """Yield the updates of `GET /api/stream`."""
    params = {**wanted, "ids": ",".join(wanted["ids"])} if "ids" in wanted else wanted
    async with installation.status.stream(
        "GET", "/api/stream", params=params, headers=bearer(credential)
    ) as response:
        assert response.status_code == 200
        yield _states(response)


async def _states(response: httpx.Response) -> Updates:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and "file_id" in line:
            yield json.loads(line.removeprefix("data: "))


@asynccontextmanager
async def over_websocket(
    installation: Installation, credential: str, wanted: dict[str, Any]
) -> AsyncIterator[Updates]:
    """Yield the updates of `WS /api/ws`."""
    address = str(installation.status.base_url).replace("http", "ws") + "/api/ws"
    async with websockets.connect(address, additional_headers=bearer(credential)) as connection:
        await connection.send(json.dumps({"type": "subscribe", **wanted}))

        async def states() -> Updates:
            async for message in connection:
                read = json.loads(message)
                if read["type"] == "status":
                    yield read["status"]

        yield states()


STREAMS = pytest.mark.parametrize("stream", [over_sse, over_websocket])


class Listener:
    """A subscriber and the files of which it has received updates."""

    def __init__(self) -> None:
        self.received: set[str] = set()
        self.is_open = asyncio.Event()

    async def listen(self, stream: AbstractAsyncContextManager[Updates]) -> None:
        async with stream as updates:
            self.is_open.set()
            async for status in updates:
                self.received.add(status["file_id"])

    async def until_received(self, *file_ids: str) -> None:
        async with asyncio.timeout(20):
            while not self.received.issuperset(file_ids):
                await asyncio.sleep(0.02)


@STREAMS
@pytest.mark.parametrize("wanted", ["all", "owner", "batch_id", "label", "ids"])
async def test_a_state_is_told_to_those_alone_who_may_know_of_it(
    installation: Installation, stream: Stream, wanted: str
) -> None:
    secret = [new_file_id(), new_file_id()]
    marks = {tenant: new_file_id() for tenant in ("acme", "globex")}
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "owner": {"owner": "ada"},
        "batch_id": {"batch_id": "b1"},
        "label": {"label": "project:x"},
        "ids": {"ids": [*secret, *marks.values()]},
    }
    listeners = {who: Listener() for who in EVERYBODY}
    tasks = [
        asyncio.create_task(listener.listen(stream(installation, EVERYBODY[who], filters[wanted])))
        for who, listener in listeners.items()
    ]
    for listener in listeners.values():
        await listener.is_open.wait()
    await asyncio.sleep(0.3)  # A subscription over a WebSocket is not confirmed immediately.
    await installation.publish(secret[0], ours(), shared("carl"), processing())
    await installation.publish(secret[1], ours(), shared("carl"))
    for who in SEES:
        await listeners[who].until_received(*secret)
    # The order is the same for all: a later update shows that no other has come before.
    for tenant, mark in marks.items():
        await installation.publish(mark, ours(tenant=tenant))
    for who in EVERYBODY:
        if WHO[who][0] not in WITHOUT:
            await listeners[who].until_received(marks["acme" if who == "admin" else WHO[who][1]])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for who in set(EVERYBODY) - SEES:
        assert listeners[who].received.isdisjoint({*secret, marks["acme"], RUNNING, STORED}), who
    assert not listeners["other"].received
    assert marks["acme"] not in listeners["reader"].received


@STREAMS
async def test_a_stream_ends_when_its_token_does(
    installation: Installation, stream: Stream
) -> None:
    credential = token(lasts=ENDS_SOON)
    began = time.monotonic()
    async with asyncio.timeout(15):
        with_end = stream(installation, credential, {"ids": [RUNNING]})
        try:
            async with with_end as updates:
                async for _ in updates:
                    pass
        except websockets.ConnectionClosed:
            pass
    assert time.monotonic() - began > 0.5
    answer = await installation.status.get("/api/files", headers=bearer(credential))
    assert answer.json()["code"] == "token_expired"


@pytest.mark.parametrize("params", [{"stream": "true"}, {"wait": "30"}])
async def test_who_waits_for_one_file_is_told_no_more_when_the_token_ends(
    installation: Installation, params: dict[str, str]
) -> None:
    began = time.monotonic()
    answer = await installation.status.get(
        f"/api/files/{RUNNING}/process/status",
        params=params,
        headers=bearer(token(lasts=ENDS_SOON)),
    )
    assert answer.status_code == 200
    assert 0.5 < time.monotonic() - began < 15


async def test_a_socket_takes_no_new_subscription_when_the_token_has_ended(
    installation: Installation,
) -> None:
    address = str(installation.status.base_url).replace("http", "ws") + "/api/ws"
    headers = bearer(token(lasts=ENDS_SOON))
    async with websockets.connect(address, additional_headers=headers) as connection:
        await asyncio.sleep(2)
        await connection.send(json.dumps({"type": "subscribe", "ids": [RUNNING]}))
        async with asyncio.timeout(10):
            message = json.loads(await connection.recv())
            await connection.wait_closed()
    assert message["code"] == "token_expired"
    assert connection.close_code == CloseCode.EXPIRED


async def test_a_young_file_of_somebody_else_is_waited_for_like_an_unknown_one(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "YOUNG_WAIT", 0.7)
    theirs, unknown = new_file_id(), new_file_id()
    await installation.publish(theirs, ours())
    seen = await installation.status.get(f"/api/files/{theirs}", headers=bearer(EVERYBODY["owner"]))
    assert seen.is_success
    answers = []
    for file_id in (theirs, unknown):
        began = time.monotonic()
        answer = await installation.status.get(
            f"/api/files/{file_id}/process/status", headers=bearer(EVERYBODY["other"])
        )
        assert time.monotonic() - began > 0.7
        answers.append(without_id(answer, file_id))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


@pytest.mark.parametrize("params", [{"stream": "true"}, {"wait": "1"}, {"fields": "owner"}])
async def test_there_is_no_other_way_to_a_file_of_somebody_else(
    installation: Installation, params: dict[str, str]
) -> None:
    answers = [
        without_id(
            await installation.status.get(
                f"/api/files/{file_id}/process/status",
                params=params,
                headers=bearer(EVERYBODY["other"]),
            ),
            file_id,
        )
        for file_id in (RUNNING, UNKNOWN)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


@STREAMS
async def test_a_stream_ends_when_its_key_is_revoked(
    installation: Installation, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "CACHED_FOR", 0.0)
    key, text = new_key("ada", tenant="acme")
    await installation.keys.add(key)
    listener = Listener()
    listening = asyncio.create_task(listener.listen(stream(installation, text, {"ids": [RUNNING]})))
    await listener.until_received(RUNNING)
    await installation.keys.revoke(key.id)
    async with asyncio.timeout(15):
        await asyncio.gather(listening, return_exceptions=True)
    # With a new connection: an idle one may be closed at any moment.
    async with httpx.AsyncClient(base_url=installation.status.base_url) as client:
        answer = await client.get("/api/files", headers=bearer(text))
    assert answer.json()["code"] == "invalid_token"

"""A ticket opens one stream, once, for the caller that requested it, on any pod."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import websockets

from services.status import tickets
from services.status.store.store import FileStore
from shared.auth import apikeys
from shared.auth.apikeys import new_key
from shared.auth.auth import LEEWAY
from shared.auth.principal import Scope
from shared.settings import Settings
from shared.telemetry import configure_logging
from tests.access.installation import (
    RUNNING,
    STORED,
    Installation,
    running,
    settings_of,
    status_pod,
)
from tests.access.people import EVERYBODY, NOBODY, SEES, bearer, token
from waybill.local.parts import Parts

STREAMS = ("/api/stream?ids=" + RUNNING, f"/api/files/{RUNNING}/process/status?stream=true")


@pytest.fixture(scope="module")
def given(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(parts, tmp_path_factory.mktemp("blobs"), "tickets")


@pytest.fixture(scope="module")
async def installation(given: Settings) -> AsyncIterator[Installation]:
    async with running(given) as started:
        yield started


@pytest.fixture(scope="module")
async def other_pod(
    installation: Installation,  # noqa: ARG001 - it creates the topics and the database
    given: Settings,
) -> AsyncIterator[httpx.AsyncClient]:
    async with status_pod(given) as client:
        yield client


async def ticket_of(client: httpx.AsyncClient, credential: str) -> str:
    answer = await client.post("/api/tickets", headers=bearer(credential))
    assert answer.status_code == 201, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


async def first_files(client: httpx.AsyncClient, address: str) -> list[str] | httpx.Response:
    """Return the first file of a stream, if any, or the error response."""
    async with asyncio.timeout(20), client.stream("GET", address) as response:
        if response.status_code != 200:
            await response.aread()
            return response
        assert response.headers["access-control-allow-origin"] == "*"
        async for line in response.aiter_lines():
            if line.startswith("data: ") and "file_id" in line:
                return [json.loads(line.removeprefix("data: "))["file_id"]]
            if line.startswith(": "):  # The current state was sent completely.
                return []
    return []


def code_of(answer: list[str] | httpx.Response) -> str:
    assert isinstance(answer, httpx.Response), answer
    assert answer.status_code == 401
    return str(answer.json()["code"])


def with_ticket(address: str, ticket: str) -> str:
    return f"{address}&ticket={ticket}"


async def test_a_ticket_opens_one_stream_on_another_pod_as_who_it_was_given_to(
    installation: Installation, other_pod: httpx.AsyncClient
) -> None:
    for who, credential in EVERYBODY.items():
        address = with_ticket(STREAMS[0], await ticket_of(installation.status, credential))
        assert await first_files(other_pod, address) == ([RUNNING] if who in SEES else []), who
        assert code_of(await first_files(installation.status, address)) == "invalid_token"


async def test_a_ticket_opens_the_stream_of_one_file(
    installation: Installation, other_pod: httpx.AsyncClient
) -> None:
    address = with_ticket(STREAMS[1], await ticket_of(installation.status, EVERYBODY["owner"]))
    assert await first_files(other_pod, address) == [RUNNING]
    assert code_of(await first_files(other_pod, address)) == "invalid_token"
    address = with_ticket(STREAMS[1], await ticket_of(installation.status, EVERYBODY["other"]))
    unknown = await first_files(other_pod, address)
    assert isinstance(unknown, httpx.Response)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_file")


async def test_a_ticket_opens_a_socket_from_any_page(
    installation: Installation, other_pod: httpx.AsyncClient
) -> None:
    ticket = await ticket_of(installation.status, EVERYBODY["owner"])
    address = str(other_pod.base_url).replace("http", "ws") + f"/api/ws?ticket={ticket}"
    elsewhere = websockets.Origin("https://elsewhere.example")
    async with asyncio.timeout(20), websockets.connect(address, origin=elsewhere) as socket:
        await socket.send(json.dumps({"type": "subscribe", "ids": [RUNNING]}))
        while (message := json.loads(await socket.recv()))["type"] != "status":
            pass
        assert message["status"]["file_id"] == RUNNING
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(address):
            pass
    assert refused.value.response.status_code == 401


async def test_of_many_who_come_with_one_ticket_one_is_let_in(
    installation: Installation, other_pod: httpx.AsyncClient
) -> None:
    ticket = await ticket_of(installation.status, EVERYBODY["owner"])
    address = with_ticket(STREAMS[0], ticket)
    pods = [installation.status, other_pod] * 5
    answers = await asyncio.gather(*(first_files(pod, address) for pod in pods))
    assert sum(isinstance(answer, list) for answer in answers) == 1


async def test_a_ticket_lasts_for_half_a_minute(
    installation: Installation, given: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "TICKET_LIFETIME", timedelta(0))
    ticket = await ticket_of(installation.status, EVERYBODY["owner"])
    answer = await first_files(installation.status, with_ticket(STREAMS[0], ticket))
    assert code_of(answer) == "invalid_token"
    store = FileStore(given)
    indexes = await store.beside("tickets").index_information()
    store.close()
    assert any(index.get("expireAfterSeconds") == 0 for index in indexes.values())


async def test_a_ticket_is_good_for_nothing_but_streams(installation: Installation) -> None:
    client = installation.status
    for method, path in [
        ("GET", f"/api/files/{STORED}"),
        ("GET", f"/api/files/{STORED}/process/status"),
        ("GET", "/api/files"),
        ("POST", f"/api/files/{RUNNING}/cancel"),
        ("POST", "/api/tickets"),
        ("GET", "/api/session"),
    ]:
        ticket = await ticket_of(client, EVERYBODY["admin"])
        answer = await client.request(method, path, params={"ticket": ticket})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
        as_token = await client.request(method, path, headers=bearer(ticket))
        assert as_token.status_code == 401


async def test_a_ticket_is_given_to_those_alone_who_may_read(installation: Installation) -> None:
    for credential in (*NOBODY.values(), token(scope=Scope.UPLOAD)):
        answer = await installation.status.post("/api/tickets", headers=bearer(credential))
        assert answer.status_code in {401, 403}
    for made_up in ("", "x", "wbt_" + "x" * 43, "x" * 10_000):
        answered = await first_files(installation.status, with_ticket(STREAMS[0], made_up))
        assert code_of(answered) == "invalid_token"


async def test_a_ticket_ends_with_what_proved_who_asks(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apikeys, "CACHED_FOR", 0.0)
    key, text = new_key("ada", tenant="acme")
    await installation.keys.add(key)
    ticket = await ticket_of(installation.status, text)
    await installation.keys.revoke(key.id)
    answer = await first_files(installation.status, with_ticket(STREAMS[0], ticket))
    assert code_of(answer) == "invalid_token"

    ticket = await ticket_of(installation.status, token(lasts=1 - LEEWAY))
    await asyncio.sleep(1.5)
    answer = await first_files(installation.status, with_ticket(STREAMS[0], ticket))
    assert code_of(answer) == "token_expired"


async def test_no_ticket_gets_into_a_log_or_a_collection(
    installation: Installation, given: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure_logging(given)
        root.setLevel(logging.DEBUG)
        socket = await ticket_of(installation.status, EVERYBODY["owner"])
        stream = await ticket_of(installation.status, EVERYBODY["owner"])
        address = str(installation.status.base_url).replace("http", "ws")
        async with websockets.connect(f"{address}/api/ws?ticket={socket}&x=1"):
            pass
        await first_files(installation.status, with_ticket(STREAMS[0], stream))
        await first_files(installation.status, with_ticket(STREAMS[0], stream))
    finally:
        root.handlers[:], root.level = before[0], before[1]
    output = capfd.readouterr().err
    assert "/api/ws?ticket=…&x=1" in output
    unused = await ticket_of(installation.status, EVERYBODY["owner"])
    store = FileStore(given)
    kept = str([each async for each in store.beside("tickets").find()])
    store.close()
    for each in (socket, stream):
        assert each not in output
    assert "ada" in kept
    assert unused not in kept

"""The live protocol: the same states over SSE and WebSocket, from any pod, without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import websockets
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection

from services.status.api import socket
from services.status.api.messages import CloseCode
from services.status.app import create_app
from services.status.live import subscription
from services.status.settings import StatusSettings
from shared.events.events import new_file_id, utc_now
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, wait_for
from tests.support.builders import completed, failed, processing, progressed, retrying, uploaded
from tests.support.serving import served, until_ready

Message = dict[str, Any]


async def sse_messages(response: httpx.Response) -> AsyncIterator[Message]:
    """Yield the messages of an SSE stream in the form of WebSocket messages."""
    kind, cursor, data = "status", None, None
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("id: "):
            cursor = line.removeprefix("id: ")
        elif line.startswith("data: "):
            data = json.loads(line.removeprefix("data: "))
        elif not line:
            if data is not None:
                message = {"status": data} if kind == "status" else data
                yield {"type": kind, **message, "cursor": cursor}
            elif cursor is not None:
                yield {"type": "heartbeat", "cursor": cursor}
            kind, cursor, data = "status", None, None


async def ws_messages(connection: ClientConnection) -> AsyncIterator[Message]:
    async for text in connection:
        message: Message = json.loads(text)
        yield message


@asynccontextmanager
async def following(
    client: httpx.AsyncClient, transport: str, **wanted: Any
) -> AsyncIterator[AsyncIterator[Message]]:
    """A subscription over SSE or WebSocket."""
    if transport == "sse":
        params = {key: ",".join(v) if isinstance(v, list) else v for key, v in wanted.items()}
        async with client.stream("GET", "/api/stream", params=params) as response:
            assert response.status_code == 200, await response.aread()
            yield sse_messages(response)
    else:
        async with websockets.connect(ws_url(client)) as connection:
            await connection.send(json.dumps({"type": "subscribe", **wanted}))
            yield ws_messages(connection)


def ws_url(client: httpx.AsyncClient) -> str:
    return str(client.base_url).replace("http", "ws", 1) + "/api/ws"


async def states_until(
    messages: AsyncIterator[Message], last: str
) -> tuple[list[tuple[str, str]], str | None]:
    """Return the states up to the first one that is `last`, and the last cursor."""
    seen: list[tuple[str, str]] = []
    cursor = None
    async with asyncio.timeout(20):
        async for message in messages:
            cursor = message.get("cursor") or cursor
            if message["type"] == "status":
                seen.append((message["status"]["status"], message["status"]["phase"]))
            if seen and seen[-1][0] == last and cursor is not None:
                break
    return seen, cursor


async def opening(messages: AsyncIterator[Message]) -> list[Message]:
    """Return the states before the first heartbeat."""
    told: list[Message] = []
    async with asyncio.timeout(20):
        async for message in messages:
            told.append(message)
            if message["type"] == "heartbeat":
                break
    return told


async def to_the_end(messages: AsyncIterator[Message]) -> None:
    async with asyncio.timeout(20):
        async for _ in messages:
            pass


TRANSPORTS = pytest.mark.parametrize("transport", ["sse", "ws"])


@TRANSPORTS
async def test_the_present_states_come_first_and_then_every_later_one(
    client: httpx.AsyncClient, publisher: Publisher, transport: str
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing())
    await wait_for(client, file_id, "processing")
    async with following(client, transport, ids=[file_id]) as messages:
        told = await opening(messages)
        assert [each["type"] for each in told] == ["subscribed", "status", "heartbeat"]
        assert told[0]["complete"]
        assert told[1]["status"]["status"] == "processing"
        assert "history" not in told[1]["status"]
        await publish(publisher, file_id, progressed(), retrying(), processing(2), completed(2))
        seen, _ = await states_until(messages, "completed")
    assert [state for state in seen if state[1] != "extracting"] == [  # Progress may be overtaken.
        ("pending", "waiting to retry"),
        ("processing", "starting"),
        ("completed", "completed"),
    ]


@TRANSPORTS
async def test_under_any_other_server_the_same_is_told(
    status_settings: StatusSettings, publisher: Publisher, transport: str
) -> None:
    async with served(create_app(status_settings), past_asgi=False) as client:
        await until_ready(client)
        async with following(client, transport) as messages:
            await opening(messages)
            await publish(publisher, new_file_id(), uploaded(), processing(), completed())
            seen, _ = await states_until(messages, "completed")
    assert [status for status, _ in seen] == ["pending", "processing", "completed"]


@TRANSPORTS
@pytest.mark.parametrize(
    "wanted",
    [{"label": "team:a"}, {"owner": "ada-a"}, {"batch_id": "batch-a"}, {"status": "failed"}],
    ids=lambda wanted: next(iter(wanted)),
)
async def test_only_what_the_filter_matches_is_told(
    client: httpx.AsyncClient, publisher: Publisher, transport: str, wanted: dict[str, str]
) -> None:
    before, mine, other = new_file_id(), new_file_id(), new_file_id()
    of_a: dict[str, Any] = {"labels": {"team": "a"}, "owner": "ada-a", "batch_id": "batch-a"}
    of_b: dict[str, Any] = {"labels": {"team": "b"}, "owner": "bob", "batch_id": "batch-b"}
    await publish(publisher, before, uploaded(**of_a), processing(), failed())
    await wait_for(client, before, "failed")
    async with following(client, transport, **wanted) as messages:
        told = await opening(messages)
        assert [each["status"]["file_id"] for each in told if "status" in each] == [before]
        await publish(publisher, other, uploaded(**of_b), processing(), completed())
        await publish(publisher, mine, uploaded(**of_a), processing(), failed())
        seen: list[tuple[str, str]] = []
        async for message in messages:
            if message["type"] == "status":
                seen.append((message["status"]["file_id"], message["status"]["status"]))
            if seen[-1:] == [(mine, "failed")]:
                break
    states = ["failed"] if "status" in wanted else ["pending", "processing", "failed"]
    assert seen == [(mine, state) for state in states]


@TRANSPORTS
async def test_whoever_comes_back_with_a_cursor_gets_what_was_missed_from_any_pod(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    transport: str,
) -> None:
    file_id = new_file_id()
    wanted = {"label": f"trial:{file_id}"}
    await publish(publisher, file_id, uploaded(labels={"trial": file_id}))
    await wait_for(client, file_id, "pending")
    async with following(client, transport, **wanted) as messages:
        await opening(messages)
        await publish(publisher, file_id, processing())
        _, cursor = await states_until(messages, "processing")
    await publish(publisher, file_id, retrying(), processing(2))
    await wait_for(client, file_id, "processing")
    async with served(create_app(status_settings)) as later_pod:
        await until_ready(later_pod)
        for pod in (client, later_pod):
            async with following(pod, transport, **wanted, cursor=cursor) as messages:
                told = await opening(messages)
                assert told[0] == {"type": "subscribed", "complete": True} | (
                    {"cursor": None} if transport == "sse" else {}
                )
                seen = [each["status"]["phase"] for each in told if each["type"] == "status"]
                assert seen == ["waiting to retry", "starting"]
        async with following(later_pod, transport, **wanted, cursor=cursor) as messages:
            await opening(messages)
            await publish(publisher, file_id, completed(2))
            assert (await states_until(messages, "completed"))[0] == [("completed", "completed")]


@pytest.mark.parametrize("minutes", [-50, 50])
async def test_a_pod_that_starts_with_a_wrong_clock_knows_what_was_told_before(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    monkeypatch: pytest.MonkeyPatch,
    minutes: int,
) -> None:
    file_id = new_file_id()
    async with following(client, "ws", ids=[file_id]) as messages:
        cursor = (await opening(messages))[-1]["cursor"]
    await publish(publisher, file_id, uploaded(), processing(), completed())
    await wait_for(client, file_id, "completed")
    wrong = utc_now() + timedelta(minutes=minutes)
    monkeypatch.setattr("services.status.live.fanout.utc_now", lambda: wrong)
    monkeypatch.setattr("services.status.live.fanout.LOOK_BACK", (300.0,))
    async with served(create_app(status_settings)) as later_pod:
        await until_ready(later_pod)
        async with following(later_pod, "ws", ids=[file_id], cursor=cursor) as messages:
            told = await opening(messages)
    states = [each["status"]["status"] for each in told if each["type"] == "status"]
    assert states == ["pending", "processing", "completed"]


@TRANSPORTS
async def test_a_cursor_that_is_too_old_is_answered_with_the_present_states(
    client: httpx.AsyncClient,
    publisher: Publisher,
    status_settings: StatusSettings,
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.status.live.fanout.LOOK_BACK", ())
    file_id = new_file_id()
    async with following(client, transport, ids=[file_id]) as messages:
        cursor = (await opening(messages))[-1]["cursor"]
    await publish(publisher, file_id, uploaded(), processing(), failed())
    await wait_for(client, file_id, "failed")
    async with served(create_app(status_settings)) as later_pod:
        await until_ready(later_pod)
        async with following(later_pod, transport, ids=[file_id], cursor=cursor) as messages:
            told = await opening(messages)
    assert [each["type"] for each in told] == ["reset", "status", "heartbeat"]
    assert told[1]["status"]["status"] == "failed"


async def test_a_browser_gives_the_cursor_as_the_last_event_id(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    async with following(client, "sse") as messages:
        told = await opening(messages)
    assert told[0] == {"type": "subscribed", "complete": False, "cursor": None}
    await publish(publisher, file_id, uploaded(), processing(), completed())
    await wait_for(client, file_id, "completed")
    headers = {"Last-Event-ID": told[-1]["cursor"]}
    async with client.stream("GET", "/api/stream", headers=headers) as response:
        seen, _ = await states_until(sse_messages(response), "completed")
    assert [status for status, _ in seen] == ["pending", "processing", "completed"]


async def test_what_is_no_subscription_is_refused_with_the_reason(
    client: httpx.AsyncClient,
) -> None:
    for params in ({"cursor": "xyz"}, {"label": "nocolon"}, {"ids": "a," * 1001}):
        refused = await client.get("/api/stream", params=params)
        assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    faults: Iterable[dict[str, Any]] = (
        {"type": "unsubscribe"},
        {"type": "subscribe", "cursor": "xyz"},
        {"type": "subscribe", "label": "nocolon"},
        {"type": "subscribe", "ids": ["a"] * 1001},
    )
    async with websockets.connect(ws_url(client)) as connection:
        for fault in faults:
            await connection.send(json.dumps(fault))
            answer = json.loads(await connection.recv())
            assert answer["type"] == "error"
            assert answer["code"] in ("bad_message", "bad_parameter")
        await connection.send('{"type": "subscribe"}')
        assert json.loads(await connection.recv())["type"] == "subscribed"
        for _ in range(socket.MAX_FAULTS):
            await connection.send("{}")
        await connection.wait_closed()
    assert connection.close_code == CloseCode.BAD_MESSAGES


async def test_a_connection_that_wants_nothing_is_closed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "SUBSCRIBE_TIMEOUT", 0.1)
    async with websockets.connect(ws_url(client)) as connection:
        await connection.wait_closed()
    assert connection.close_code == CloseCode.NOTHING_SUBSCRIBED


async def test_a_binary_message_ends_the_conversation_with_a_code(
    client: httpx.AsyncClient,
) -> None:
    for before in ([], ['{"type": "subscribe"}']):
        async with websockets.connect(ws_url(client)) as connection:
            for text in before:
                await connection.send(text)
                assert json.loads(await connection.recv())["type"] == "subscribed"
            await connection.send(b'{"type": "subscribe"}')
            async with asyncio.timeout(20):
                await connection.wait_closed()
        assert connection.close_code == 1003
        assert not CloseCode.BINARY.reconnects


async def test_another_sites_page_may_not_listen(client: httpx.AsyncClient) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(ws_url(client), origin=websockets.Origin("http://evil.example"))
    assert refused.value.response.status_code == 403


async def test_one_client_may_have_only_so_many_connections(
    status_settings: StatusSettings,
    publisher: Publisher,  # noqa: ARG001 - it creates the topics
) -> None:
    few = status_settings.model_copy(update={"max_subscribers_per_client": 2})
    async with served(create_app(few)) as client:
        await until_ready(client)
        async with following(client, "sse") as one, following(client, "ws") as two:
            await opening(one)
            await opening(two)
            refused = await client.get("/api/stream")
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            async with websockets.connect(ws_url(client)) as connection:
                await connection.send('{"type": "subscribe"}')
                assert json.loads(await connection.recv())["code"] == "overloaded"
                await connection.wait_closed()
            assert connection.close_code == CloseCode.TRY_AGAIN_LATER
        async with asyncio.timeout(20):
            while (await status_of_stream(client)) != 200:
                await asyncio.sleep(0.05)


async def status_of_stream(client: httpx.AsyncClient) -> int:
    async with client.stream("GET", "/api/stream") as response:
        return response.status_code


@TRANSPORTS
async def test_a_client_that_is_cut_off_loses_nothing(
    client: httpx.AsyncClient,
    publisher: Publisher,
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_id = new_file_id()
    async with following(client, transport) as messages:
        cursor = (await opening(messages))[-1]["cursor"]
        monkeypatch.setattr(subscription, "MAX_BATCH", 0)  # As if the connection were blocked,
        monkeypatch.setattr(subscription, "MAX_BACKLOG", 0)  # and any state is one too many.
        await publish(publisher, file_id, uploaded(), processing(), completed())
        with pytest.raises((httpx.TransportError, websockets.ConnectionClosed)) as cut:
            await to_the_end(messages)
    if isinstance(cut.value, websockets.ConnectionClosed):
        assert cut.value.rcvd is not None
        assert cut.value.rcvd.code == CloseCode.SLOW
    monkeypatch.undo()
    async with following(client, transport, cursor=cursor) as messages:
        seen, _ = await states_until(messages, "completed")
    assert [status for status, _ in seen] == ["pending", "processing", "completed"]


async def test_a_send_that_the_client_does_not_read_is_ended(
    client: httpx.AsyncClient, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "MAX_BACKLOG", 40)
    async with following(client, "sse") as messages:
        await opening(messages)
        followers = REGISTRY.get_sample_value("waybill_subscribers")
        async with asyncio.timeout(30):
            while REGISTRY.get_sample_value("waybill_subscribers") == followers:
                await publish(publisher, new_file_id(), uploaded(labels={"text": "x" * 50_000}))


@TRANSPORTS
async def test_a_pod_that_shuts_down_says_goodbye(
    status_settings: StatusSettings,
    publisher: Publisher,  # noqa: ARG001 - it creates the topics
    transport: str,
) -> None:
    app = create_app(status_settings)
    async with served(app) as client:
        await until_ready(client)
        async with following(client, transport) as messages:
            await opening(messages)
            app.state.hub.close()
            async with asyncio.timeout(20):
                told = [message["type"] async for message in messages]
    assert told[-1] == "bye"

"""Webhooks deliver signed messages about finished files, and retry until they are accepted."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
import standardwebhooks
from fastapi import FastAPI, Request, Response

from services.status.app import create_app
from services.status.settings import StatusSettings
from services.status.webhooks import courier
from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, wait_for
from tests.support.builders import at, cancelled, completed, failed, processing, uploaded
from tests.support.serving import served, until_ready


@dataclass
class Receiver:
    """A user's server that records requests and sends configured responses."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """HTTP statuses of the next responses; 204 afterwards."""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hook")
        async def take(request: Request) -> Response:
            self.got.append((dict(request.headers), await request.body()))
            return Response(status_code=self.answers.pop(0) if self.answers else 204)

        return app

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """Wait for this many messages and return them."""
        async with asyncio.timeout(40):
            while len(self.got) < count:
                await asyncio.sleep(0.05)
        return [json.loads(content) for _, content in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with served(receiver.app(), past_asgi=False) as client:
        receiver.url = f"{client.base_url}/hook"
        yield receiver


@pytest.fixture
async def status(
    status_settings: StatusSettings, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A status service that may send to loopback and retries quickly."""
    assert publisher
    monkeypatch.setattr(courier, "IDLE", 0.1)
    monkeypatch.setattr(courier, "FIRST_WAIT", timedelta(seconds=1))
    trial = status_settings.model_copy(update={"webhooks_private": True})
    async with served(create_app(trial)) as client:
        await until_ready(client)
        yield client


async def add(client: httpx.AsyncClient, url: str, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/api/webhooks", json={"url": url, **asked})
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def deliveries(client: httpx.AsyncClient, webhook_id: str, count: int) -> list[Any]:
    """Wait for this many deliveries of a webhook and return them, oldest first."""
    async with asyncio.timeout(40):
        while True:
            answer = await client.get(f"/api/webhooks/{webhook_id}/deliveries")
            items: list[Any] = answer.json()["items"]
            if len(items) >= count:
                return items[::-1]
            await asyncio.sleep(0.05)


async def test_the_end_of_a_file_is_told_signed(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    before, file_id = new_file_id(), new_file_id()
    await publish(publisher, before, uploaded(), completed())
    await wait_for(status, before, "completed")
    made = await add(status, receiver.url)
    now = time.time()
    await publish(publisher, file_id, uploaded(), processing(), failed(time=now))
    (message,) = await receiver.messages(1)
    assert message["type"] == "file.failed"
    assert (message["data"]["file_id"], message["data"]["status"]) == (file_id, "failed")
    assert message["data"]["error"]["code"]
    headers, content = receiver.got[0]
    assert standardwebhooks.Webhook(made["secret"]).verify(content, headers) == message
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(made["secret"]).verify(content + b" ", headers)
    (line,) = await deliveries(status, made["id"], 1)
    assert (line["status"], line["attempt"], line["next_attempt_at"]) == (204, 1, None)
    listed = (await status.get("/api/webhooks")).json()["items"]
    assert [each["id"] for each in listed] == [made["id"]]
    assert "secret" not in listed[0]


async def test_what_is_not_taken_is_told_again_and_is_known_for_a_repeat(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    receiver.answers = [500, 302]
    made = await add(status, receiver.url)
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), completed(time=time.time()))
    await receiver.messages(3)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({content for _, content in receiver.got}) == 1
    lines = await deliveries(status, made["id"], 3)
    assert [(line["status"], line["attempt"]) for line in lines] == [(500, 1), (302, 2), (204, 3)]
    assert [line["next_attempt_at"] is None for line in lines] == [False, False, True]


async def test_only_what_was_asked_for_is_told(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    await add(status, receiver.url, states=["cancelled"], label="kind:scan")
    now = time.time()
    scan, letter, done = new_file_id(), new_file_id(), new_file_id()
    await publish(publisher, done, uploaded(labels={"kind": "scan"}), completed(time=now))
    await publish(publisher, letter, uploaded(labels={"kind": "letter"}), cancelled(time=now))
    await publish(publisher, scan, uploaded(labels={"kind": "scan"}), cancelled(time=now))
    (message,) = await receiver.messages(1)
    assert message["data"]["file_id"] == scan
    await asyncio.sleep(1)
    assert len(receiver.got) == 1


async def test_after_a_rotation_both_secrets_sign(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    made = await add(status, receiver.url)
    changed = (await status.post(f"/api/webhooks/{made['id']}/rotate")).json()
    assert changed["secret"] != made["secret"]
    await publish(publisher, new_file_id(), uploaded(), completed(time=time.time()))
    await receiver.messages(1)
    headers, content = receiver.got[0]
    for secret in (made["secret"], changed["secret"]):
        standardwebhooks.Webhook(secret).verify(content, headers)


async def test_a_server_that_is_gone_for_good_is_left_alone(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    receiver.answers = [410]
    made = await add(status, receiver.url)
    await publish(publisher, new_file_id(), uploaded(), completed(time=time.time()))
    await receiver.messages(1)
    async with asyncio.timeout(20):
        while not (await status.get("/api/webhooks")).json()["items"][0]["disabled"]:
            await asyncio.sleep(0.05)
    await publish(publisher, new_file_id(), uploaded(), completed(time=time.time()))
    await asyncio.sleep(1)
    assert len(receiver.got) == 1
    assert (await status.delete(f"/api/webhooks/{made['id']}")).status_code == 204
    assert (await status.get(f"/api/webhooks/{made['id']}/deliveries")).status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://10.1.2.3/",
        "https://user:password@hooks.example/",
        "https:///hook",
        "ftp://hooks.example/",
        "hooks.example",
    ],
)
async def test_an_address_that_is_not_public_is_refused(
    client: httpx.AsyncClient, url: str
) -> None:
    answer = await client.post("/api/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "forbidden_address")


async def test_of_a_run_with_two_ends_one_is_told(
    status: httpx.AsyncClient, publisher: Publisher, receiver: Receiver
) -> None:
    await add(status, receiver.url)
    one, other, now = new_file_id(), new_file_id(), time.time()
    now -= at(0).timestamp()
    await publish(
        publisher, one, uploaded(), processing(), completed(time=now), failed(2, time=now)
    )
    await publish(publisher, one, cancelled(3, time=now))
    await wait_for(status, one, "completed")
    await publish(publisher, other, uploaded(), failed(time=now))
    await receiver.messages(2)
    await asyncio.sleep(0.5)  # An unwanted message would have arrived before the last one.
    told = {(each["data"]["file_id"], each["type"]) for each in await receiver.messages(2)}
    assert told == {(one, "file.completed"), (other, "file.failed")}
    lines = (await status.get(f"/api/files/{one}/events")).json()["items"]
    assert [(line["type"], line["superseded"]) for line in lines] == [
        ("file.uploaded", False),
        ("file.processing", False),
        ("file.completed", False),
        ("file.failed", True),
        ("file.cancelled", True),
    ]

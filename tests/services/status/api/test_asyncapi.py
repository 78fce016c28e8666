"""The AsyncAPI document matches real messages of the WebSocket protocol."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import websockets

from services.status.api.asyncapi import FROM_CLIENTS, TO_CLIENTS, document
from services.status.app import create_app
from services.status.live.cursor import Partition
from services.status.live.recent import Recent
from services.status.live.update import Withdrawal
from services.status.projection.projection import apply
from services.status.settings import StatusSettings
from shared.events.events import new_file_id
from shared.kafka.publishing import Publisher
from tests.services.status.asking import publish, wait_for
from tests.services.status.live.test_live import ws_url
from tests.support.builders import completed, processing, progressed, retrying, uploaded
from tests.support.serving import served, until_ready

MODELS = {model.model_fields["type"].default: model.__name__ for model in TO_CLIENTS}


def check(message: dict[str, Any], described: dict[str, Any]) -> None:
    """Check that a message matches the document, and that the document has all its members."""
    name = MODELS[message["type"]]
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    jsonschema_rs.validator_for(schema).validate(message)
    assert message.keys() <= described["components"]["schemas"][name]["properties"].keys()


async def test_every_message_is_as_the_document_says(
    status_settings: StatusSettings, publisher: Publisher
) -> None:
    app = create_app(status_settings)
    file_id = new_file_id()
    messages: list[dict[str, Any]] = []
    async with served(app) as client:
        await until_ready(client)
        described = (await client.get("/asyncapi.json")).json()
        assert described == document()
        async with websockets.connect(ws_url(client)) as socket:
            await socket.send("{}")
            await socket.send('{"type": "subscribe"}')
            messages += [json.loads(await socket.recv()) for _ in range(3)]
            cursor = messages[-1]["cursor"]
            await publish(publisher, file_id, uploaded(), processing(), progressed(), retrying())
            await publish(publisher, file_id, processing(2), completed(2))
            await wait_for(client, file_id, "completed")
            app.state.hub._recent = Recent({Partition(0, 0): 99})  # All events are older.
            again = {"type": "subscribe", "ids": [file_id], "cursor": cursor}
            await socket.send(json.dumps(again))
            while not any(each["type"] == "reset" for each in messages):
                messages.append(json.loads(await socket.recv()))
            app.state.hub.close()
            messages += [json.loads(text) async for text in socket]
    assert {each["type"] for each in messages} == MODELS.keys() - {"withdrawn"}
    for each in messages:
        check(each, described)


def test_a_withdrawal_is_as_the_document_says() -> None:
    withdrawal = Withdrawal(apply(None, uploaded(), 0), reader="bob")
    for cursor in (None, "x"):
        check(json.loads(withdrawal.message(cursor)), document())


def test_what_is_no_message_is_found() -> None:
    described = document()
    check({"type": "heartbeat", "cursor": "x"}, described)
    with pytest.raises(jsonschema_rs.ValidationError):
        check({"type": "heartbeat"}, described)
    with pytest.raises(AssertionError):
        check({"type": "bye", "why": "unknown member"}, described)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_whatever_the_document_points_at_is_in_it() -> None:
    described = document()
    found = set(references(described))
    assert len(found) > len(FROM_CLIENTS) + len(TO_CLIENTS)
    for reference in found:
        place: Any = described
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    answer = await client.get("/asyncapi.json")
    assert answer.json()["asyncapi"] == "3.0.0"
    assert set(answer.json()["channels"]["live"]["x-close-codes"]) >= {"1001", "4000", "4500"}

"""Dead letters are listed, shown and redriven: real Kafka, real HTTP."""

import asyncio
from base64 import b64decode, b64encode
from typing import Any

import httpx
import pytest
from aiokafka import ConsumerRecord

from shared.events.events import FileDead, new_file_id
from shared.events.facts import DeadCode, DeadData
from shared.events.topics import LIFECYCLE
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.status.asking import publish, status_path, wait_for
from tests.services.status.test_poison import long_story
from tests.support.builders import at, completed, failed, processing, uploaded

DEAD = "/api/admin/dead"


def letter(
    file_id: str, *, code: DeadCode = DeadCode.UNREADABLE, time: float = 0, **changes: Any
) -> FileDead:
    """Return a dead letter as a service writes it."""
    facts = {
        "topic": "file.lifecycle",
        "partition": 0,
        "offset": 7,
        "reason": "why",
        "payload": b64encode(b"value").decode(),
        "code": code.value,
        "size": 5,
    }
    return FileDead.of(file_id, DeadData(**(facts | changes)), source="/processor", time=at(time))


def given_up(file_id: str, *, run: int = 1) -> FileDead:
    facts: dict[str, Any] = {
        "payload": "",
        "size": None,
        "error_code": "worker_crashed",
        "run": run,
        "attempt": 3,
    }
    return letter(file_id, code=DeadCode.GIVEN_UP, **facts)


async def listed(client: httpx.AsyncClient, count: int, **params: Any) -> list[dict[str, Any]]:
    """Return the list of letters once there are that many."""
    async with asyncio.timeout(15):
        while True:
            answer = await client.get(DEAD, params=params)
            assert answer.status_code == 200, answer.text
            if len(items := answer.json()["items"]) >= count:
                return list(items)


async def records_of(settings: Settings) -> list[ConsumerRecord]:
    """Return all records of the lifecycle topic."""
    async with open_log(settings, (LIFECYCLE,), client_id="tests") as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
    return records


async def test_a_record_that_could_not_be_read_is_found_shown_and_put_back_unchanged(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    topic = settings.topic_prefix + LIFECYCLE.name
    await publisher.put_back(topic, file_id, b"no event")
    (found,) = await listed(client, 1)
    assert (found["file_id"], found["source"]) == (file_id, "/projector")
    assert (found["data"]["code"], found["data"]["topic"]) == ("unreadable", topic)
    assert found["data"]["payload"] == ""
    shown = (await client.get(f"{DEAD}/{found['id']}")).json()
    assert b64decode(shown["data"]["payload"]) == b"no event"
    answer = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert answer.status_code == 202, answer.text
    assert answer.json()["id"] == found["id"]
    first, second = await records_of(settings)
    assert (first.key, first.value) == (second.key, second.value) == (file_id.encode(), b"no event")
    # The cause was not fixed, so the record returns as a new letter.
    assert len({each["id"] for each in await listed(client, 2)}) == 2


async def test_a_file_that_was_given_up_is_redriven_once_as_its_next_run(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), processing())
    await publisher.publish(given_up(file_id))
    await publish(publisher, file_id, failed(3))
    await wait_for(client, file_id, "failed")
    (found,) = await listed(client, 1, code="given_up")
    assert found["data"]["error_code"] == "worker_crashed"
    answer = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == status_path(file_id)
    document = (await client.get(status_path(file_id))).json()
    assert (document["status"], document["run"]) == ("pending", 2)
    assert document["history"][-1]["message"] == f"redriven from dead letter {found['id']}"
    await publish(publisher, file_id, failed(run=2))
    await wait_for(client, file_id, "failed")
    again = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert (again.status_code, again.json()["code"]) == (409, "not_redrivable")
    assert "run 2 already" in again.json()["detail"]


async def test_a_file_that_was_completed_after_all_is_not_redriven(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), completed())
    await publisher.publish(given_up(file_id))
    await wait_for(client, file_id, "completed")
    (found,) = await listed(client, 1)
    refused = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"topic": "payroll"}, "not a Waybill topic"), ({"size": 900_000}, "of the record's 900000")],
    ids=["from another topic", "cut"],
)
async def test_a_record_that_cannot_be_put_back_as_it_was_is_not_put_back(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    changes: dict[str, Any],
    why: str,
) -> None:
    topic = settings.topic_prefix + LIFECYCLE.name
    await publisher.publish(letter(new_file_id(), **({"topic": topic} | changes)))
    (found,) = await listed(client, 1)
    refused = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_redrivable")
    assert why in refused.json()["detail"]
    assert await records_of(settings) == []


async def test_the_newest_letters_come_first_and_are_chosen_by_their_code(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    ids = [new_file_id() for _ in range(12)]
    for second, file_id in enumerate(ids):
        code = DeadCode.UNKNOWN_VERSION if second % 4 == 0 else DeadCode.UNREADABLE
        await publisher.publish(letter(file_id, code=code, time=second))
    assert [each["file_id"] for each in await listed(client, 5, limit=5)] == ids[:-6:-1]
    chosen = await listed(client, 3, code="unknown_version")
    assert [each["file_id"] for each in chosen] == [ids[8], ids[4], ids[0]]
    refused = await client.get(DEAD, params={"code": "sad"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")


async def test_a_letter_that_is_not_there_and_a_foreign_command_are_refused(
    client: httpx.AsyncClient, publisher: Publisher
) -> None:
    await publisher.publish(letter(new_file_id()))
    (found,) = await listed(client, 1)
    for place in ("0-999", "77-0"):
        for answer in (
            await client.get(f"{DEAD}/{place}"),
            await client.post(f"{DEAD}/{place}/redrive"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_dead_letter")
    foreign = await client.post(
        f"{DEAD}/{found['id']}/redrive", headers={"Origin": "https://elsewhere.example"}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")


async def test_what_cannot_be_stored_is_folded_anew_and_never_put_into_the_log_again(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, uploaded(), *long_story(20, size=900_000), completed(21))
    await wait_for(client, file_id, "completed")
    found = (await listed(client, 1, code="unstorable"))[0]
    records = len(await records_of(settings))
    refused = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_redrivable")
    assert "still cannot be stored" in refused.json()["detail"]
    assert len(await records_of(settings)) == records
    letters = len(await listed(client, 1, code="unstorable", limit=100))
    again = await client.post(f"{DEAD}/{found['id']}/redrive")
    assert again.status_code == 409
    assert len(await listed(client, 1, code="unstorable", limit=100)) == letters

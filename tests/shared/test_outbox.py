"""Commands in the outbox: none is lost, and none blocks those about other files."""

import asyncio

import pytest

from shared import deadlines
from shared.blobs.blobs import open_blob_store
from shared.errors import BlobStoreUnavailableError, EventTooLargeError, KafkaUnavailableError
from shared.events.events import Event, new_file_id
from shared.kafka.publishing import Publisher
from shared.outbox import keep_command, relay_commands, waiting_commands
from shared.settings import Settings
from tests.support.builders import about, cancel_requested


class Kafka(Publisher):
    """Accepts all events except those about one file."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused
        self.taken: list[str] = []

    async def publish(self, event: Event, topic: object = None) -> None:
        assert topic is None
        if event.subject == self.refused:
            raise EventTooLargeError
        self.taken.append(event.subject)


async def test_a_command_that_cannot_be_published_holds_up_no_other_file_and_stays() -> None:
    blobs = open_blob_store(Settings(blobs="memory://"))
    refused, newer, other = sorted(new_file_id() for _ in range(3))
    for file_id in (refused, other):
        await keep_command(blobs, file_id, "c1", [about(file_id, cancel_requested())])
    await blobs.put(f"outbox-commands/{newer}/c1.json", b'{"specversion": "2.0"}')
    kafka = Kafka(refused)
    await relay_commands(blobs, kafka)
    assert kafka.taken == [other]
    assert len(await waiting_commands(blobs, refused)) == 1
    assert await waiting_commands(blobs, newer) == []
    assert len(await blobs.keys("outbox-commands/")) == 2
    kafka.refused = ""
    await relay_commands(blobs, kafka)
    assert kafka.taken == [other, refused]
    assert await blobs.keys("outbox-commands/") == [f"outbox-commands/{newer}/c1.json"]


@pytest.mark.parametrize("hangs", ["Kafka", "the blob store"])
async def test_a_relay_that_waits_too_long_names_the_part_that_did_not_answer(
    hangs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "KAFKA_ANSWERS_WITHIN", 0.05)
    monkeypatch.setattr(deadlines, "BLOB_STORE_ANSWERS_WITHIN", 0.05)
    blobs, kafka, file_id = open_blob_store(Settings(blobs="memory://")), Kafka(), new_file_id()
    await keep_command(blobs, file_id, "c1", [about(file_id, cancel_requested())])

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    if hangs == "Kafka":
        monkeypatch.setattr(kafka, "publish", hang)
    else:
        monkeypatch.setattr(blobs, "get", hang)
    expected = KafkaUnavailableError if hangs == "Kafka" else BlobStoreUnavailableError
    async with asyncio.timeout(20):
        with pytest.raises(expected):
            await relay_commands(blobs, kafka)
    assert len(await blobs.keys("outbox-commands/")) == 1

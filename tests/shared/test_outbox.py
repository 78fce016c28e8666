"""Commands that wait for Kafka: none is lost, and none holds up those about other files."""

from shared.blobs import open_blob_store
from shared.errors import EventTooLargeError
from shared.events import Event, new_file_id
from shared.outbox import keep_command, relay_commands, waiting_commands
from shared.publishing import Publisher
from shared.settings import Settings
from tests.support.builders import about, cancel_requested


class Kafka(Publisher):
    """Takes all events but those about one file."""

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

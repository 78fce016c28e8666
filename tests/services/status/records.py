"""Records as a projector gets them, without a Kafka."""

from dataclasses import dataclass

from shared.events.events import StatusEvent
from shared.kafka.messaging import KafkaRecord
from tests.support.builders import about


@dataclass
class Record:
    """What a projector needs of a consumed record."""

    key: bytes | None
    value: bytes | None
    offset: int
    topic: str = "file.lifecycle"
    partition: int = 0


def records(file_id: str, *events: StatusEvent, first: int = 0) -> list[KafkaRecord]:
    return [
        Record(file_id.encode(), about(file_id, event).to_json(), offset)
        for offset, event in enumerate(events, start=first)
    ]

"""Parsing of Kafka records, and creation of topics."""

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from shared.clock import CLOCK, LOG_APPEND_TIME
from shared.deadlines import kafka_answers
from shared.errors import KafkaUnavailableError
from shared.events.events import AnyEvent, StatusEvent, is_status_event
from shared.events.reading import UnreadableEventError, parse, parse_once
from shared.events.topics import TOPICS, Topic
from shared.kafka.connection import KAFKA_RETRY_DELAY, admin_client
from shared.kafka.topic_times import set_timestamp_type
from shared.settings import Settings


class KafkaRecord(Protocol):
    """The fields of a consumed record that Waybill uses, whichever library provides it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


SESSION_TIMEOUT_MS = 6_000
"""Milliseconds without a heartbeat after which a consumer group removes a member. This is the
broker's minimum, so that the records of a killed pod are reassigned as soon as possible."""

PROJECTOR_GROUP = "projector"
"""The consumer group of the projectors, one per status pod."""

PROCESSOR_GROUP = "processor"
"""The consumer group of all processors. The status service reads its offsets."""


CREATED_DELAY = 0.05
"""Seconds between two checks whether Kafka knows the created topics."""


class TopicRefusedError(KafkaUnavailableError):
    """Kafka rejects the creation of a topic; a retry cannot succeed."""


class LoggedEvent(NamedTuple):
    """An event and its offset in the log, which defines the order of events."""

    event: AnyEvent
    offset: int


def read_record(record: KafkaRecord) -> LoggedEvent | None:
    """Parse the event of a record; return None for a tombstone or an unknown type.

    Raises:
        UnreadableEventError: the record is not an event of this contract.
    """
    if record.value is None:
        return None
    event = parse(record.value)
    return None if event is None else LoggedEvent(event, record.offset)


def read_status_event(record: KafkaRecord) -> StatusEvent | None:
    """Parse the event of a record; return None unless it is a `StatusEvent`.

    Unreadable records also return None: the projector dead-letters them.
    """
    try:
        event = parse_once(record.value) if record.value is not None else None
    except UnreadableEventError:
        return None
    return event if event is not None and is_status_event(event) else None


def learn_time(record: ConsumerRecord) -> None:
    """Update the broker clock with the timestamp of a consumed record."""
    if record.timestamp_type == LOG_APPEND_TIME:
        CLOCK.was_read(record.timestamp / 1000, at=time.time())


async def create_topics(settings: Settings, *, patience: float = 60.0) -> list[str]:
    """Create the missing topics, wait until Kafka knows them, and return their names.

    The call is idempotent.

    Args:
        patience: seconds to wait for a Kafka that is still starting.

    Raises:
        KafkaUnavailableError: Kafka did not respond in that time, or rejects a topic.
    """
    deadline = asyncio.get_running_loop().time() + patience
    created: dict[str, None] = {}
    while True:
        try:
            async with admin_client(settings) as admin:
                while missing := await _create_missing(admin, settings):
                    created |= dict.fromkeys(missing)
                    await asyncio.sleep(CREATED_DELAY)
                await set_timestamp_type(admin, settings)
                return list(created)
        except TopicRefusedError:
            raise
        except (KafkaError, KafkaUnavailableError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise KafkaUnavailableError(
                    f"Kafka at {settings.kafka} is unavailable: {error!r}"
                ) from error
            await asyncio.sleep(KAFKA_RETRY_DELAY)


async def _create_missing(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    async with kafka_answers("listing topics"):
        present = set(await admin.list_topics())
    missing = [topic for topic in TOPICS if settings.topic_prefix + topic.name not in present]
    if not missing:
        return []
    wanted = [
        NewTopic(
            name=settings.topic_prefix + topic.name,
            num_partitions=topic.partitions,
            replication_factor=settings.replication,
            topic_configs=topic.config,
        )
        for topic in missing
    ]
    async with kafka_answers("creating topics"):
        response = await admin.create_topics(wanted)
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicRefusedError(f"Kafka rejected the creation of {name}: {message}")
    return [settings.topic_prefix + topic.name for topic in missing]


async def is_group_empty(settings: Settings, group: str) -> bool:
    """Return True if a consumer group exists but has no members.

    Raises:
        KafkaUnavailableError: Kafka does not respond.
    """
    try:
        async with admin_client(settings) as admin, kafka_answers("describing a consumer group"):
            (answer,) = await admin.describe_consumer_groups([group_name(settings, group)])
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"Kafka cannot describe {group}: {error!r}") from error
    # A group that never had a member is unknown to Kafka and is reported as "Dead".
    return all(described[_STATE] == "Empty" for described in answer.groups)


_STATE = 2
"""Index of the state in Kafka's description of a group."""


def topic_names(settings: Settings, topics: Iterable[Topic]) -> list[str]:
    """Return the topic names of this installation, with its prefix."""
    return [settings.topic_prefix + topic.name for topic in topics]


def group_name(settings: Settings, group: str) -> str:
    """Return the name of a consumer group in this installation, with its prefix."""
    return settings.topic_prefix + group


def main() -> None:
    """Create the topics; run by `python -m shared.kafka.messaging`."""
    settings = Settings()
    created = asyncio.run(create_topics(settings))
    sys.stdout.write(f"created {', '.join(created)}\n" if created else "all topics exist\n")


if __name__ == "__main__":
    main()

"""Kafka: the reading of records, and the creation of topics."""

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
from shared.kafka.topic_times import use_times
from shared.settings import Settings


class KafkaRecord(Protocol):
    """What we use of a consumed record, whichever library brings it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


SESSION_TIMEOUT_MS = 6_000
"""After this silence a group takes a pod for dead: the broker's minimum, so that what a killed pod
had in its hands waits no longer than it must."""

PROJECTOR_GROUP = "projector"
"""The consumer group of the projectors, one in each status pod."""

PROCESSOR_GROUP = "processor"
"""The consumer group of all processors; the status service looks at how far it is."""


CREATED_DELAY = 0.05
"""Seconds between two looks whether Kafka knows what it has created."""


class TopicRefusedError(KafkaUnavailableError):
    """Kafka refuses to create a topic: waiting does not help."""


class LoggedEvent(NamedTuple):
    """An event and its place in the log: the order of places is the order of facts."""

    event: AnyEvent
    offset: int


def read_record(record: KafkaRecord) -> LoggedEvent | None:
    """The event in a record; None for a tombstone or a type of a newer version.

    Raises:
        UnreadableEventError: the record is not an event of this contract.
    """
    if record.value is None:
        return None
    event = parse(record.value)
    return None if event is None else LoggedEvent(event, record.offset)


def read_status_event(record: KafkaRecord) -> StatusEvent | None:
    """The event in a record, if it tells of a file's status; None for all else.

    What cannot be read is passed over: the projector puts it to the dead letters.
    """
    try:
        event = parse_once(record.value) if record.value is not None else None
    except UnreadableEventError:
        return None
    return event if event is not None and is_status_event(event) else None


def learn_time(record: ConsumerRecord) -> None:
    """Learn from a record that was read what time it is at the brokers at least."""
    if record.timestamp_type == LOG_APPEND_TIME:
        CLOCK.was_read(record.timestamp / 1000, at=time.time())


async def create_topics(settings: Settings, *, patience: float = 60.0) -> list[str]:
    """Create the topics that are missing; harmless to repeat. Returns the names created.

    When it returns, all of them are known to Kafka, which may take a moment.

    Args:
        patience: seconds to wait for a Kafka that is still starting.

    Raises:
        KafkaUnavailableError: Kafka did not answer in that time.
    """
    deadline = asyncio.get_running_loop().time() + patience
    created: dict[str, None] = {}
    while True:
        try:
            async with admin_client(settings) as admin:
                while missing := await _create_missing(admin, settings):
                    created |= dict.fromkeys(missing)
                    await asyncio.sleep(CREATED_DELAY)
                await use_times(admin, settings)
                return list(created)
        except TopicRefusedError:
            raise
        except (KafkaError, KafkaUnavailableError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise KafkaUnavailableError(
                    f"Kafka at {settings.kafka} does not answer: {error!r}"
                ) from error
            await asyncio.sleep(KAFKA_RETRY_DELAY)


async def _create_missing(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    async with kafka_answers("the list of topics"):
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
    async with kafka_answers("the creation of topics"):
        response = await admin.create_topics(wanted)
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise TopicRefusedError(f"Kafka refused to create {name}: {message}")
    return [settings.topic_prefix + topic.name for topic in missing]


async def is_group_deserted(settings: Settings, group: str) -> bool:
    """Whether a consumer group has worked, and has no member any more.

    Raises:
        KafkaUnavailableError: Kafka does not answer.
    """
    try:
        async with admin_client(settings) as admin, kafka_answers("the members of a group"):
            (answer,) = await admin.describe_consumer_groups([group_name(settings, group)])
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"Kafka does not describe a group: {error!r}") from error
    # One that it does not know, since nobody has ever been its member, is "Dead".
    return all(described[_STATE] == "Empty" for described in answer.groups)


_STATE = 2
"""Where Kafka's description of a group has its state."""


def topic_names(settings: Settings, topics: Iterable[Topic]) -> list[str]:
    """The names that these topics have in this installation."""
    return [settings.topic_prefix + topic.name for topic in topics]


def group_name(settings: Settings, group: str) -> str:
    """The name that a consumer group has in this installation."""
    return settings.topic_prefix + group


def main() -> None:
    """Create the topics: the command `python -m shared.kafka.messaging`."""
    settings = Settings()
    created = asyncio.run(create_topics(settings))
    sys.stdout.write(f"created {', '.join(created)}\n" if created else "all topics exist\n")


if __name__ == "__main__":
    main()

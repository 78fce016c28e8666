"""Kafka: the producer of events, the reading of records, and the creation of topics."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAlreadyExistsError
from aiokafka.partitioner import murmur2
from faststream.exceptions import IncorrectState
from faststream.kafka import KafkaBroker

from shared.connection import (
    KAFKA_RETRY_DELAY,
    admin_client,
    kafka_options,
    security_of,
)
from shared.errors import EventTooLargeError, KafkaUnavailableError, WaybillError
from shared.events import AccessEvent, AnyEvent, Event, StatusEvent, tells_of_status
from shared.reading import UnreadableEventError, parse, parse_once
from shared.settings import Settings
from shared.topics import PARTITIONS, TOPICS, Topic, topic_of

LINGER_MS = 0
"""A lone event leaves at once; under load aiokafka batches what waits behind the request in
flight."""

PUBLISH_TIMEOUT = 30.0
"""Seconds in which Kafka takes an event, unless a service cannot wait that long."""

CROWD, CROWD_SECONDS = 16, 0.01
"""Events within as many seconds from which on it pays to wait for more."""

CROWD_LINGER = 0.005
"""Seconds that a batch of a crowd waits for more: a fifth of the requests, and a half more files a
second on the same cores."""

KEYS_KNOWN = 10_000
"""Keys whose hash is known, 100 bytes each: a file's events come one after another."""


class KafkaRecord(Protocol):
    """What we use of a consumed record, whichever library brings it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


CLOUDEVENTS_JSON = "application/cloudevents+json; charset=UTF-8"
_HEADERS = [("content-type", CLOUDEVENTS_JSON.encode())]

SESSION_TIMEOUT_MS = 6_000
"""After this silence a group takes a pod for dead: the broker's minimum, so that what a killed pod
had in its hands waits no longer than it must."""

PROCESSOR_GROUP = "processor"
"""The consumer group of all processors; the status service looks at how far it is."""


class LoggedEvent(NamedTuple):
    """An event and its place in the log: the order of places is the order of facts."""

    event: AnyEvent
    offset: int


def make_broker(
    settings: Settings, *, client_id: str, publish_timeout: float = PUBLISH_TIMEOUT
) -> KafkaBroker:
    """A FastStream broker whose publishes are acknowledged by all in-sync replicas.

    Args:
        client_id: how the broker's logs name this client.
        publish_timeout: seconds; what Kafka does not take in them fails for good.
    """
    return KafkaBroker(
        settings.kafka.split(","),
        security=security_of(settings),
        client_id=client_id,
        acks="all",
        linger_ms=LINGER_MS,
        request_timeout_ms=int(publish_timeout * 1000),
        allow_auto_create_topics=False,
        logger=None,
    )


class Publisher:
    """Publishes events to their topics, keyed by file_id."""

    def __init__(self, broker: KafkaBroker, settings: Settings) -> None:
        self._broker = broker
        self._prefix = settings.topic_prefix

    async def publish(self, event: Event, topic: Topic | None = None) -> None:
        """Return once all in-sync replicas have the event.

        Args:
            topic: where the event goes if its type alone does not tell.

        Raises:
            KafkaUnavailableError: no acknowledgement came within the broker's time-out.
            EventTooLargeError: Kafka takes no record of this size.
        """
        target = topic or topic_of(event.type)
        part = event.data.key if isinstance(event, AccessEvent) else None
        try:
            await self._send(self._prefix + target.name, event.file_id, event.to_json(), part)
        except (KafkaError, IncorrectState, OSError) as error:
            raise _not_taken(event, error) from error

    async def put_back(self, topic: str, key: str, value: bytes) -> None:
        """Publish the value of a record once more, as it was.

        Args:
            topic: the name that it has in this installation.

        Raises:
            KafkaUnavailableError: no acknowledgement came within the broker's time-out.
        """
        try:
            whole, _, part = key.partition(":")
            await self._send(topic, whole, value, part or None)
        except (KafkaError, IncorrectState, OSError) as error:
            raise KafkaUnavailableError(
                f"Kafka did not take back a record of {key}: {error!r}"
            ) from error

    async def forget(self, file_id: str, topic: Topic, part: str | None = None) -> None:
        """Put a tombstone: a compacted topic keeps no record of the file any more.

        Args:
            part: what is forgotten of the file, in a topic that keeps a record of each part.

        Raises:
            KafkaUnavailableError: no acknowledgement came within the broker's time-out.
        """
        try:
            await self._send(self._prefix + topic.name, file_id, None, part)
        except (KafkaError, IncorrectState, OSError) as error:
            raise KafkaUnavailableError(
                f"Kafka did not take the tombstone of {file_id}: {error!r}"
            ) from error

    async def _send(
        self, topic: str, key: str, value: bytes | None, part: str | None = None
    ) -> None:
        placed, partition = _placed(key, part)
        headers = {"content-type": CLOUDEVENTS_JSON}
        await self._broker.publish(value, topic, key=placed, partition=partition, headers=headers)


class DirectPublisher(Publisher):
    """Publishes by aiokafka itself, for a service that publishes thousands of events a second.

    By way of FastStream an event costs about three times the CPU (41 µs against 13 µs).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client_id: str,
        publish_timeout: float = PUBLISH_TIMEOUT,
        crowd_linger: float = CROWD_LINGER,
    ) -> None:
        """Args:
        client_id: how the broker's logs name this client.
        publish_timeout: seconds; what Kafka does not take in them fails for good.
        crowd_linger: seconds that the batch of a crowd waits for more; 0 for no time at all.
        """
        self._crowd_linger = crowd_linger
        self._prefix = settings.topic_prefix
        self._timeout_ms = int(publish_timeout * 1000)
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._recent = deque([0.0] * CROWD, maxlen=CROWD)
        """When the last events were published, in seconds of a clock that only goes forward."""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: Kafka does not answer.
        """
        self._producer = AIOKafkaProducer(
            **kafka_options(self._settings),
            client_id=self._client_id,
            acks="all",
            linger_ms=LINGER_MS,
            request_timeout_ms=self._timeout_ms,
            partitioner=_partition_of,
        )
        await self._producer.start()

    async def stop(self) -> None:
        """Send what waits and disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def answers(self) -> bool:
        """Whether Kafka answers within the time it has for an event."""
        return self._producer is not None and await self._producer.client.force_metadata_update()

    async def post(self, event: Event) -> None:
        """Hand an event over without waiting for its acknowledgement.

        What is published to the same topic for the same file afterwards is acknowledged after it.
        """
        try:
            await self._enqueue(
                self._prefix + topic_of(event.type).name, event.file_id, event.to_json()
            )
        except (KafkaError, OSError) as error:
            raise _not_taken(event, error) from error

    async def tell(self, topic: Topic, key: str, value: bytes) -> None:
        """Put something into a topic that is no event.

        Raises:
            KafkaUnavailableError: no acknowledgement came within the time-out.
        """
        try:
            await (await self._enqueue(self._prefix + topic.name, key, value, headers=()))
        except (KafkaError, IncorrectState, OSError) as error:
            raise KafkaUnavailableError(f"Kafka did not take a record: {error!r}") from error

    async def _send(
        self, topic: str, key: str, value: bytes | None, part: str | None = None
    ) -> None:
        await (await self._enqueue(topic, key, value, part))

    async def _enqueue(
        self,
        topic: str,
        key: str,
        value: bytes | None,
        part: str | None = None,
        *,
        headers: Sequence[tuple[str, bytes]] = _HEADERS,
    ) -> asyncio.Future[None]:
        if self._producer is None:
            raise IncorrectState("the publisher is not started")
        if self._crowd_linger:
            self._set_linger(self._producer)
        placed, partition = _placed(key, part)
        future: asyncio.Future[None] = await self._producer.send(
            topic, value, key=placed, partition=partition, headers=headers
        )
        return future

    def _set_linger(self, producer: AIOKafkaProducer) -> None:
        now = time.monotonic()
        crowded = now - self._recent[0] < CROWD_SECONDS
        self._recent.append(now)
        # aiokafka has one linger for good and all; each new batch asks for it here. The batches of
        # all partitions end theirs at the same moments, so that they share requests.
        linger = self._crowd_linger - now % self._crowd_linger if crowded else 0.0
        producer._message_accumulator._linger_time = linger  # noqa: SLF001


_hash = lru_cache(maxsize=KEYS_KNOWN)(murmur2)


def _partition_of(key: bytes, partitions: Sequence[int], _: Sequence[int]) -> int:
    """The partition of a key, as every Kafka client finds it; in Python that takes 6 µs."""
    number: int = (_hash(key) & 0x7FFFFFFF) % len(partitions)
    return partitions[number]


def _placed(key: str, part: str | None) -> tuple[bytes, int | None]:
    """The key of a record, and its partition if it is that of another key: of the file's own."""
    if part is None:
        return key.encode(), None
    return f"{key}:{part}".encode(), _partition_of(key.encode(), range(PARTITIONS), ())


def _not_taken(event: Event, error: Exception) -> WaybillError:
    message = f"Kafka did not take {event.type} of {event.file_id}: {error!r}"
    if isinstance(error, MessageSizeTooLargeError):
        return EventTooLargeError(message)
    return KafkaUnavailableError(message)


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
    return event if event is not None and tells_of_status(event) else None


async def create_topics(settings: Settings, *, patience: float = 60.0) -> list[str]:
    """Create the topics that are missing; harmless to repeat. Returns the names created.

    Args:
        patience: seconds to wait for a Kafka that is still starting.

    Raises:
        KafkaUnavailableError: Kafka did not answer in that time.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            async with admin_client(settings) as admin:
                return await _create_missing(admin, settings)
        except (KafkaError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise KafkaUnavailableError(
                    f"Kafka at {settings.kafka} does not answer: {error!r}"
                ) from error
            await asyncio.sleep(KAFKA_RETRY_DELAY)


async def _create_missing(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    present = set(await admin.list_topics())
    missing = [topic for topic in TOPICS if settings.topic_prefix + topic.name not in present]
    if not missing:
        return []
    response = await admin.create_topics(
        [
            NewTopic(
                name=settings.topic_prefix + topic.name,
                num_partitions=topic.partitions,
                replication_factor=settings.replication,
                topic_configs=topic.config,
            )
            for topic in missing
        ]
    )
    for name, code, *message in response.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise KafkaUnavailableError(f"Kafka refused to create {name}: {message}")
    return [settings.topic_prefix + topic.name for topic in missing]


def topic_names(settings: Settings, topics: Iterable[Topic]) -> list[str]:
    """The names that these topics have in this installation."""
    return [settings.topic_prefix + topic.name for topic in topics]


def group_name(settings: Settings, group: str) -> str:
    """The name that a consumer group has in this installation."""
    return settings.topic_prefix + group


def main() -> None:
    """Create the topics: the command `python -m shared.messaging`."""
    settings = Settings()
    created = asyncio.run(create_topics(settings))
    sys.stdout.write(f"created {', '.join(created)}\n" if created else "all topics exist\n")


if __name__ == "__main__":
    main()

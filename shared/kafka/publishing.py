"""The producer of events."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerClosed
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from shared.clock import CLOCK, LOG_APPEND_TIME
from shared.deadlines import kafka_answers
from shared.errors import EventTooLargeError, KafkaUnavailableError, WaybillError
from shared.events.events import AccessEvent, Event
from shared.events.topics import CLOCK_PROBES, PARTITIONS, Topic, topic_of
from shared.kafka.connection import close_client, kafka_options
from shared.settings import Settings

log = logging.getLogger(__name__)

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

CLOUDEVENTS_JSON = "application/cloudevents+json; charset=UTF-8"
_HEADERS = [("content-type", CLOUDEVENTS_JSON.encode())]


class Publisher:
    """Publishes events to their topics, keyed by file_id; connected in an `async with` block.

    It goes by aiokafka itself: by way of FastStream an event costs about three times the CPU (41 µs
    against 13 µs), and a producer that has ended is not replaced.
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
        self._starting = asyncio.Lock()
        self._recent = deque([0.0] * CROWD, maxlen=CROWD)
        """When the last events were published, in seconds of a clock that only goes forward."""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: Kafka cannot be reached.
            KafkaUnavailableError: it does not answer.
        """
        producer = AIOKafkaProducer(
            **kafka_options(self._settings),
            client_id=self._client_id,
            acks="all",
            linger_ms=LINGER_MS,
            request_timeout_ms=self._timeout_ms,
            partitioner=_partition_of,
        )
        try:
            async with kafka_answers("the connection of a producer"):
                await producer.start()
        except BaseException:
            await close_client(producer.stop())
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Send what waits and disconnect; from now on events are refused."""
        async with self._starting:
            producer, self._producer = self._producer, None
        if producer is not None and not await close_client(producer.stop()):
            await close_client(producer.client.close())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def answers(self) -> bool:
        """Whether Kafka answers within the time it has for an event."""
        if self._producer is None:
            return False
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                answered: bool = await self._producer.client.force_metadata_update()
        except TimeoutError:
            return False
        return answered

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
        except (KafkaError, OSError) as error:
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
        except (KafkaError, OSError) as error:
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
        except (KafkaError, OSError) as error:
            raise KafkaUnavailableError(
                f"Kafka did not take the tombstone of {file_id}: {error!r}"
            ) from error

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
        except (KafkaError, OSError) as error:
            raise KafkaUnavailableError(f"Kafka did not take a record: {error!r}") from error

    async def probe_clock(self) -> None:
        """Learn how far this machine's clock is from the brokers' by a record of no content.

        Raises:
            KafkaUnavailableError: no acknowledgement came within the time-out.
        """
        try:
            await self._send(self._prefix + CLOCK_PROBES.name, self._client_id, b"")
        except (KafkaError, OSError) as error:
            raise KafkaUnavailableError(f"Kafka did not take a clock probe: {error!r}") from error

    async def _send(
        self, topic: str, key: str, value: bytes | None, part: str | None = None
    ) -> None:
        sent = time.time()
        stored = await (await self._enqueue(topic, key, value, part))
        if stored.timestamp_type == LOG_APPEND_TIME:
            CLOCK.acknowledged(stored.timestamp / 1000, sent=sent, received=time.time())

    async def _enqueue(
        self,
        topic: str,
        key: str,
        value: bytes | None,
        part: str | None = None,
        *,
        headers: Sequence[tuple[str, bytes]] = _HEADERS,
    ) -> asyncio.Future[RecordMetadata]:
        producer = self._producer
        if producer is None:
            raise ProducerClosed
        if not _is_alive(producer):
            await self._replace()
            return await self._enqueue(topic, key, value, part, headers=headers)
        if self._crowd_linger:
            self._set_linger(producer)
        placed, partition = _placed(key, part)
        future: asyncio.Future[RecordMetadata] = await producer.send(
            topic, value, key=placed, partition=partition, headers=headers
        )
        return future

    async def _replace(self) -> None:
        """Replace a producer that has ended by an error which its library did not foresee."""
        async with self._starting:
            ended = self._producer
            if ended is not None and not _is_alive(ended):
                log.error("the producer has ended; another one is started")
                await self.start()
                await close_client(ended.stop())

    def _set_linger(self, producer: AIOKafkaProducer) -> None:
        now = time.monotonic()
        crowded = now - self._recent[0] < CROWD_SECONDS
        self._recent.append(now)
        # aiokafka has one linger for good and all; each new batch asks for it here. The batches of
        # all partitions end theirs at the same moments, so that they share requests.
        linger = self._crowd_linger - now % self._crowd_linger if crowded else 0.0
        producer._message_accumulator._linger_time = linger  # noqa: SLF001


def _is_alive(producer: AIOKafkaProducer) -> bool:
    """Whether it still sends what it is given."""
    return not producer._sender.sender_task.done()  # noqa: SLF001 - it tells nobody


_hash = lru_cache(maxsize=KEYS_KNOWN)(murmur2)


def _partition_of(key: bytes, partitions: Sequence[int], _: Sequence[int]) -> int:
    """The partition of a key, as every Kafka client finds it; in Python that takes 6 µs."""
    number: int = (_hash(key) & 0x7FFFFFFF) % len(partitions)
    return partitions[number]


def partition_of_key(key: str) -> int:
    """The partition, in each topic of events, in which the records of a file stand."""
    return _partition_of(key.encode(), range(PARTITIONS), ())


def _placed(key: str, part: str | None) -> tuple[bytes, int | None]:
    """The key of a record, and its partition if it is that of another key: of the file's own."""
    if part is None:
        return key.encode(), None
    return f"{key}:{part}".encode(), partition_of_key(key)


def _not_taken(event: Event, error: Exception) -> WaybillError:
    message = f"Kafka did not take {event.type} of {event.file_id}: {error!r}"
    if isinstance(error, MessageSizeTooLargeError):
        return EventTooLargeError(message)
    return KafkaUnavailableError(message)

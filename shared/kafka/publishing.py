"""The producer of events."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
"""Milliseconds that a single event waits for others: none. Under load, aiokafka batches the events
that wait behind the request in flight."""

PUBLISH_TIMEOUT = 30.0
"""Default seconds for Kafka to acknowledge an event."""

BURST, BURST_SECONDS = 16, 0.01
"""Number of events within a number of seconds from which lingering pays off."""

BURST_LINGER = 0.005
"""Seconds that a batch lingers during a burst. This reduces the requests to a fifth and raises the
throughput by half on the same cores."""

KEYS_KNOWN = 10_000
"""Keys whose hash is cached, 100 bytes each. The events of a file follow each other."""

CLOUDEVENTS_JSON = "application/cloudevents+json; charset=UTF-8"
_HEADERS = [("content-type", CLOUDEVENTS_JSON.encode())]


class Publisher:
    """Publishes events to their topics, keyed by file_id; connected in an `async with` block.

    It uses aiokafka directly. FastStream needs about three times the CPU per event (41 µs instead
    of 13 µs), and does not replace a producer that has ended.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        client_id: str,
        publish_timeout: float = PUBLISH_TIMEOUT,
        burst_linger: float = BURST_LINGER,
    ) -> None:
        """Create a publisher without connecting it.

        Args:
            client_id: name of this client in the broker's logs.
            publish_timeout: seconds after which an unacknowledged event fails permanently.
            burst_linger: seconds that a batch lingers during a burst; 0 for none.
        """
        self._burst_linger = burst_linger
        self._prefix = settings.topic_prefix
        self._timeout_ms = int(publish_timeout * 1000)
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._recent = deque([0.0] * BURST, maxlen=BURST)
        """Monotonic seconds at which the last events were published."""

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: Kafka cannot be reached.
            KafkaUnavailableError: Kafka does not respond.
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
            async with kafka_answers("connecting a producer"):
                await producer.start()
        except BaseException:
            await close_client(producer.stop())
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Flush and disconnect. Afterwards, publishing raises an error."""
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
        """Return True if Kafka responds within `publish_timeout`."""
        if self._producer is None:
            return False
        try:
            async with asyncio.timeout(self._timeout_ms / 1000):
                answered: bool = await self._producer.client.force_metadata_update()
        except TimeoutError:
            return False
        return answered

    async def publish(self, event: Event, topic: Topic | None = None) -> None:
        """Publish an event; return once all in-sync replicas have stored it.

        Args:
            topic: the topic, if the event's type does not determine it.

        Raises:
            KafkaUnavailableError: Kafka did not acknowledge the event in time.
            EventTooLargeError: the event exceeds Kafka's size limit.
        """
        target = topic or topic_of(event.type)
        part = event.data.key if isinstance(event, AccessEvent) else None
        try:
            await self._send(self._prefix + target.name, event.file_id, event.to_json(), part)
        except (KafkaError, OSError) as error:
            raise _not_taken(event, error) from error

    async def put_back(self, topic: str, key: str, value: bytes) -> None:
        """Publish the value of a record again, unchanged.

        Args:
            topic: full topic name, including the prefix.

        Raises:
            KafkaUnavailableError: Kafka did not acknowledge the record in time.
        """
        whole, _, part = key.partition(":")
        with _acknowledged(f"a record of {key}"):
            await self._send(topic, whole, value, part or None)

    async def forget(self, file_id: str, topic: Topic, part: str | None = None) -> None:
        """Publish a tombstone, so that a compacted topic removes the records of the file.

        Args:
            part: second part of the key, in a topic that keeps several records per file.

        Raises:
            KafkaUnavailableError: Kafka did not acknowledge the tombstone in time.
        """
        with _acknowledged(f"the tombstone of {file_id}"):
            await self._send(self._prefix + topic.name, file_id, None, part)

    async def post(self, event: Event) -> None:
        """Enqueue an event without waiting for its acknowledgement.

        Later events to the same topic about the same file are acknowledged after this one.
        """
        try:
            await self._enqueue(
                self._prefix + topic_of(event.type).name, event.file_id, event.to_json()
            )
        except (KafkaError, OSError) as error:
            raise _not_taken(event, error) from error

    async def publish_value(self, topic: Topic, key: str, value: bytes) -> None:
        """Publish a record that is not an event.

        Raises:
            KafkaUnavailableError: Kafka did not acknowledge the record in time.
        """
        with _acknowledged("a record"):
            await (await self._enqueue(self._prefix + topic.name, key, value, headers=()))

    async def probe_clock(self) -> None:
        """Measure the offset between the local clock and the brokers' with an empty record.

        Raises:
            KafkaUnavailableError: Kafka did not acknowledge the record in time.
        """
        with _acknowledged("a clock probe"):
            await self._send(self._prefix + CLOCK_PROBES.name, self._client_id, b"")

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
        if self._burst_linger:
            self._set_linger(producer)
        placed, partition = _placed(key, part)
        future: asyncio.Future[RecordMetadata] = await producer.send(
            topic, value, key=placed, partition=partition, headers=headers
        )
        return future

    async def _replace(self) -> None:
        """Replace a producer that has ended with an error that its library does not handle."""
        async with self._starting:
            ended = self._producer
            if ended is not None and not _is_alive(ended):
                log.error("the producer has ended; starting a new one")
                await self.start()
                await close_client(ended.stop())

    def _set_linger(self, producer: AIOKafkaProducer) -> None:
        now = time.monotonic()
        is_burst = now - self._recent[0] < BURST_SECONDS
        self._recent.append(now)
        # aiokafka has one linger time, which each new batch reads. The batches of all partitions
        # expire at the same moments, so that they share requests.
        linger = self._burst_linger - now % self._burst_linger if is_burst else 0.0
        producer._message_accumulator._linger_time = linger  # noqa: SLF001


def _is_alive(producer: AIOKafkaProducer) -> bool:
    """Return True if the producer's sender task is running."""
    return not producer._sender.sender_task.done()  # noqa: SLF001 - there is no public API


_hash = lru_cache(maxsize=KEYS_KNOWN)(murmur2)


def _partition_of(key: bytes, partitions: Sequence[int], _: Sequence[int]) -> int:
    """Return the partition of a key, as in every Kafka client. In Python this takes 6 µs."""
    number: int = (_hash(key) & 0x7FFFFFFF) % len(partitions)
    return partitions[number]


def partition_of_key(key: str) -> int:
    """Return the partition of a file's records, which is the same in every event topic."""
    return _partition_of(key.encode(), range(PARTITIONS), ())


def _placed(key: str, part: str | None) -> tuple[bytes, int | None]:
    """Return the key of a record, and for a key with a part the partition of the file itself."""
    if part is None:
        return key.encode(), None
    return f"{key}:{part}".encode(), partition_of_key(key)


@contextmanager
def _acknowledged(what: str) -> Iterator[None]:
    """Raise `KafkaUnavailableError` if Kafka does not acknowledge what the block publishes."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"Kafka did not acknowledge {what}: {error!r}") from error


def _not_taken(event: Event, error: Exception) -> WaybillError:
    message = f"Kafka did not acknowledge {event.type} of {event.file_id}: {error!r}"
    if isinstance(error, MessageSizeTooLargeError):
        return EventTooLargeError(message)
    return KafkaUnavailableError(message)

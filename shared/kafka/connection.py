"""How every client of Kafka connects: to which servers, over TLS or not, and as whom."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaConnectionError, KafkaError
from faststream.kafka.security import parse_security
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared import deadlines
from shared.deadlines import kafka_answers
from shared.errors import KafkaUnavailableError
from shared.settings import Settings

log = logging.getLogger(__name__)

_SASL = {
    "PLAIN": SASLPlaintext,
    "SCRAM-SHA-256": SASLScram256,
    "SCRAM-SHA-512": SASLScram512,
}

KAFKA_RETRY_DELAY = 0.5
"""Seconds between two tries to reach a Kafka that is away, or still starting."""

KAFKA_OUTAGES = (KafkaError, OSError, TimeoutError)
"""What aiokafka raises where Kafka does not answer."""


def _patient(ask: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Have aiokafka pause where Kafka did not answer.

    A producer that looks for a leader asks again at once otherwise, thousands of times a second,
    and logs each time.
    """

    async def ask_patiently(*arguments: Any) -> bool:
        answered = await ask(*arguments)
        if not answered:
            await asyncio.sleep(KAFKA_RETRY_DELAY)
        return answered

    return ask_patiently


def _on_uvloop(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Have aiokafka know uvloop's word for a connection that is closed.

    It goes on after an OSError, which asyncio's loop raises. After uvloop's RuntimeError a consumer
    is no member of its group any more, and says nothing of it.
    """

    def send_or_break(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"{connection} is closed: {error}") from error

    return send_or_break


def _without_cycle(keep: Callable[..., bool]) -> Callable[..., bool]:
    """Have aiokafka free at once what it fetched and drops, since its partition is paused or lost.

    Up to a mebibyte each, these hold themselves, and the garbage collector looks seldom here.
    """

    def keep_or_free(result: FetchResult, partition: TopicPartition) -> bool:
        records = result._partition_records  # noqa: SLF001
        kept = keep(result, partition)
        if not kept and records is not None:
            records._records_iterator = None  # noqa: SLF001
        return kept

    return keep_or_free


# The clients that FastStream makes for itself are out of reach, so it is done to all.
AIOKafkaClient._metadata_update = _patient(AIOKafkaClient._metadata_update)  # noqa: SLF001
AIOKafkaConnection.send = _on_uvloop(AIOKafkaConnection.send)
FetchResult.check_assignment = _without_cycle(FetchResult.check_assignment)
AIOKafkaConnection._send_sasl_token = _on_uvloop(AIOKafkaConnection._send_sasl_token)  # noqa: SLF001


def security_of(settings: Settings) -> BaseSecurity | None:
    """What proves who is who, for FastStream; None where nothing does.

    Raises:
        OSError: a file with a certificate or a key cannot be read.
    """
    context = _context(settings) if settings.kafka_tls else None
    if settings.kafka_username is not None and settings.kafka_password is not None:
        return _SASL[settings.kafka_mechanism](
            settings.kafka_username,
            settings.kafka_password.get_secret_value(),
            ssl_context=context,
            use_ssl=settings.kafka_tls,
        )
    return BaseSecurity(ssl_context=context, use_ssl=True) if context else None


def _context(settings: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.kafka_ca)
    if settings.kafka_certificate is not None:
        context.load_cert_chain(settings.kafka_certificate)
    return context


def kafka_options(settings: Settings) -> dict[str, Any]:
    """The same for a client of aiokafka, with the servers.

    Raises:
        OSError: a file with a certificate or a key cannot be read.
    """
    return {
        "bootstrap_servers": settings.kafka.split(","),
        **parse_security(security_of(settings)),
    }


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: it does not answer.
    """
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    try:
        async with kafka_answers("the connection of an admin client"):
            await admin.start()
        yield admin
    finally:
        await close_client(admin.close())


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close the connections, within seconds also if Kafka is frozen."""
    if not await close_client(consumer.stop()):
        # It was cut off while it waited for an answer: what is open goes without one.
        await close_client(consumer._client.close())  # noqa: SLF001


async def close_client(closing: Awaitable[None]) -> bool:
    """Close a client; False if that failed, which is logged and of no consequence."""
    try:
        async with asyncio.timeout(deadlines.CLOSES_WITHIN):
            await closing
    except Exception as error:
        log.info("a connection to Kafka was not closed in order: %r", error)
        return False
    return True


SILENT_FOR = 30.0
"""Seconds without an answer to a fetch, of which Kafka answers two a second also if it has nothing,
after which a consumer is made anew."""


class Answers:
    """Tells whether Kafka answers the fetches of a consumer: `getmany` alone does not say so."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._last = 0
        self._came_at = time.monotonic()

    def came(self) -> bool:
        """Whether one has come since the last call. Without partitions there is none to come."""
        assigned = self._consumer.assignment()
        times = [self._consumer.last_poll_timestamp(each) or 0 for each in assigned]
        last, self._last = self._last, max(times, default=0)
        return not assigned or self._last != last

    def check(self, *, brought: bool) -> bool:
        """Whether the consumer works.

        Args:
            brought: whether it brought something, or had nothing to ask for.

        Raises:
            KafkaUnavailableError: Kafka has not answered for `SILENT_FOR` seconds.
        """
        now = time.monotonic()
        if self.came() or brought:
            self._came_at = now
            return True
        if now - self._came_at > SILENT_FOR:
            raise KafkaUnavailableError(f"Kafka answered no fetch for {SILENT_FOR:g} s")
        return False

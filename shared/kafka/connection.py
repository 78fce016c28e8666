"""Connection options of all Kafka clients (servers, TLS, credentials), and fixes for aiokafka."""

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
"""Seconds between two connection attempts while Kafka is unavailable or still starting."""

KAFKA_OUTAGES = (KafkaError, OSError, TimeoutError)
"""Errors that aiokafka raises if Kafka is unavailable."""


def _with_delay(update: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """Make aiokafka wait after a failed metadata update.

    Without the delay, a producer that looks for a leader retries thousands of times per second and
    logs each attempt.
    """

    async def update_or_wait(*arguments: Any) -> bool:
        succeeded = await update(*arguments)
        if not succeeded:
            await asyncio.sleep(KAFKA_RETRY_DELAY)
        return succeeded

    return update_or_wait


def _on_uvloop(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Make aiokafka recognize uvloop's error for a closed connection.

    aiokafka recovers from the OSError that asyncio's loop raises. After uvloop's RuntimeError, a
    consumer silently stops being a member of its group.
    """

    def send_or_break(connection: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(connection, *arguments, **options)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"{connection} is closed: {error}") from error

    return send_or_break


def _without_cycle(keep: Callable[..., bool]) -> Callable[..., bool]:
    """Make aiokafka free fetched records immediately if it drops them.

    It drops them if their partition is paused or lost. Each result holds up to 1 MiB in a reference
    cycle, and the garbage collector runs rarely here.
    """

    def keep_or_free(result: FetchResult, partition: TopicPartition) -> bool:
        records = result._partition_records  # noqa: SLF001
        kept = keep(result, partition)
        if not kept and records is not None:
            records._records_iterator = None  # noqa: SLF001
        return kept

    return keep_or_free


# FastStream creates its own clients, so the classes are patched for all clients.
AIOKafkaClient._metadata_update = _with_delay(AIOKafkaClient._metadata_update)  # noqa: SLF001
AIOKafkaConnection.send = _on_uvloop(AIOKafkaConnection.send)
FetchResult.check_assignment = _without_cycle(FetchResult.check_assignment)
AIOKafkaConnection._send_sasl_token = _on_uvloop(AIOKafkaConnection._send_sasl_token)  # noqa: SLF001


def security_of(settings: Settings) -> BaseSecurity | None:
    """Return the TLS and SASL options for FastStream; None without both.

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
    """Return the connection options for an aiokafka client: servers, TLS and SASL.

    Raises:
        OSError: a file with a certificate or a key cannot be read.
    """
    return {
        "bootstrap_servers": settings.kafka.split(","),
        **parse_security(security_of(settings)),
    }


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect an admin client for the block.

    Raises:
        KafkaError: Kafka cannot be reached.
        KafkaUnavailableError: Kafka does not respond.
    """
    admin = AIOKafkaAdminClient(**kafka_options(settings))
    try:
        async with kafka_answers("connecting an admin client"):
            await admin.start()
        yield admin
    finally:
        await close_client(admin.close())


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and close the connections, within seconds even if Kafka is frozen."""
    if not await close_client(consumer.stop()):
        # Leaving the group timed out: close the connections without it.
        await close_client(consumer._client.close())  # noqa: SLF001


async def close_client(closing: Awaitable[None]) -> bool:
    """Close a client. A failure is harmless: it is logged, and False is returned."""
    try:
        async with asyncio.timeout(deadlines.CLOSES_WITHIN):
            await closing
    except Exception as error:
        log.info("a connection to Kafka was not closed cleanly: %r", error)
        return False
    return True


SILENT_FOR = 30.0
"""Seconds without a fetch response after which a consumer is recreated. Kafka sends two responses
per second even if it has no records."""


class Answers:
    """Monitors whether Kafka responds to a consumer's fetches, which `getmany` does not report."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._last = 0
        self._came_at = time.monotonic()

    def came(self) -> bool:
        """Return True if a response has arrived since the last call, or none is expected because
        the consumer has no partitions."""
        assigned = self._consumer.assignment()
        times = [self._consumer.last_poll_timestamp(each) or 0 for each in assigned]
        last, self._last = self._last, max(times, default=0)
        return not assigned or self._last != last

    def check(self, *, brought: bool) -> bool:
        """Return True if Kafka responds to the consumer.

        Args:
            brought: True if the consumer has returned records or had nothing to fetch.

        Raises:
            KafkaUnavailableError: Kafka has not responded for `SILENT_FOR` seconds.
        """
        now = time.monotonic()
        if self.came() or brought:
            self._came_at = now
            return True
        if now - self._came_at > SILENT_FOR:
            raise KafkaUnavailableError(f"Kafka did not respond to a fetch for {SILENT_FOR:g} s")
        return False

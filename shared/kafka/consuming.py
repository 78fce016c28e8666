"""Error handling of all Kafka consumers. They retry or dead-letter a record, and never skip one.

error                            handling
─────────────────────────────    ─────────────────────────────────────────────────────────────
Kafka, MongoDB or the blob       logged as a warning; retried until the dependency is available
store is unavailable
any other error                  logged with topic, partition, offset, file and traceback, and
                                 counted; retried with exponential backoff
the same record fails `TRIES`    dead-lettered as `unprocessable` by consumers that handle single
times in a row                   records (`RecordHandler`); the next record follows
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from shared.errors import EventTooLargeError, UnavailableError
from shared.events.facts import DeadCode
from shared.kafka.connection import KAFKA_OUTAGES
from shared.kafka.deadletters import dead_letter, without_payload
from shared.kafka.messaging import KafkaRecord
from shared.kafka.publishing import Publisher
from shared.telemetry import CONSUMER_ERRORS, DEAD_LETTERS

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds before a retry: the first delay, doubled each time, and its maximum."""

WAIT_DELAY = 1.0
"""Seconds between two attempts while a dependency is unavailable."""

TRIES = 5
"""Consecutive failures of one record before it is dead-lettered. They take about 8 seconds, in
which errors that the record did not cause should have passed."""

UNAVAILABLE = (UnavailableError, *KAFKA_OUTAGES)
"""Errors that a dependency causes, never a record."""

T = TypeVar("T")


def place_of(record: KafkaRecord) -> str:
    """Return the position and the key of a record, for the log."""
    key = (record.key or b"").decode(errors="replace")[:200]
    return f"{record.topic}:{record.partition}@{record.offset} of {key!r}"


def places_of(records: Sequence[KafkaRecord]) -> str:
    """Return the first and the last offset per partition of a batch, for the log."""
    ranges: dict[tuple[str, int], tuple[int, int]] = {}
    for record in records:
        where = record.topic, record.partition
        first, last = ranges.get(where, (record.offset, record.offset))
        ranges[where] = min(first, record.offset), max(last, record.offset)
    return ", ".join(
        f"{topic}:{partition}@{first}-{last}"
        for (topic, partition), (first, last) in ranges.items()
    )


def note_error(consumer: str, error: BaseException, where: str) -> None:
    """Log an unexpected error with its traceback and the records concerned, and count it."""
    CONSUMER_ERRORS.labels(consumer=consumer).inc()
    log.error("%s failed on %s: %r", consumer, where, error, exc_info=error)


def raise_if_cancelled() -> None:
    """Re-raise the current exception if this task was cancelled.

    Libraries also raise `CancelledError` if one of their own tasks was cancelled.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise  # noqa: PLE0704 - called while an exception is handled


async def until_done(
    act: Callable[[], Awaitable[T]], *, consumer: str, where: Callable[[], str]
) -> T:
    """Repeat an action until it succeeds, for work that cannot be skipped or dead-lettered.

    Args:
        consumer: name of the consumer in logs and metrics.
        where: returns a description of the records concerned, for the log.
    """
    delay = FIRST_DELAY
    while True:
        try:
            return await act()
        except UNAVAILABLE as error:
            log.warning("%s is waiting: %s", consumer, error or repr(error))
            await asyncio.sleep(WAIT_DELAY)
        except (Exception, asyncio.CancelledError) as error:
            raise_if_cancelled()
            note_error(consumer, error, where())
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)


class LetterWriter(Protocol):
    """Stores dead letters."""

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        """Store a dead letter for a record; return once it is durable."""


class DeadLetterWriter:
    """Publishes dead letters to `file.dead` and retries until Kafka has accepted them."""

    def __init__(self, publisher: Publisher | None, *, source: str) -> None:
        """Create a writer.

        Args:
            publisher: None to log only, as in a replay: the live projector publishes the letters.
            source: the component, as named in events, such as `/projector`.
        """
        self._publisher = publisher
        self._source = source

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        """Publish a dead letter for a record; return once Kafka has acknowledged it."""
        log.warning("%s record %s: %.500s", code.value, place_of(record), ascii(reason))
        DEAD_LETTERS.labels(code=code.value).inc()
        publisher = self._publisher
        if publisher is None:
            return
        letter = dead_letter(record, reason, source=self._source, code=code)

        async def publish() -> None:
            try:
                await publisher.publish(letter)
            except EventTooLargeError:  # Kafka's limit is configured lower than usual.
                await publisher.publish(without_payload(letter))

        await until_done(publish, consumer=self._source, where=lambda: place_of(record))


class RecordHandler:
    """Handles single records, and dead-letters a record that fails repeatedly."""

    def __init__(self, consumer: str, letters: DeadLetterWriter, *, tries: int = TRIES) -> None:
        self._consumer = consumer
        self._letters = letters
        self._tries = tries

    async def handle(self, record: KafkaRecord, act: Callable[[], Awaitable[None]]) -> None:
        """Return once `act` has succeeded or the record is dead-lettered."""
        delay = FIRST_DELAY
        failures = 0
        while True:
            try:
                await act()
                return
            except UNAVAILABLE as error:
                log.warning("%s is waiting: %s", self._consumer, error or repr(error))
                await asyncio.sleep(WAIT_DELAY)
            except (Exception, asyncio.CancelledError) as error:
                raise_if_cancelled()
                note_error(self._consumer, error, place_of(record))
                failures += 1
                if failures >= self._tries:
                    reason = f"{self._consumer}: {type(error).__name__}: {error}"
                    await self._letters.write(record, reason, DeadCode.UNPROCESSABLE)
                    return
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)

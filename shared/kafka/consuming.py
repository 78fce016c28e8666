"""How every consumer of Kafka treats an error: it retries, or dead-letters a record; never skips.

the error                        what is done
─────────────────────────────    ─────────────────────────────────────────────────────────────
Kafka, MongoDB or the blob       a warning; retried until they answer
store does not answer
anything else                    logged with topic, partition, offset, file and traceback, and
                                 counted; retried with backoff
the same record fails `TRIES`    dead-lettered as `unprocessable`, where a consumer handles
times in a row                   single records (`RecordHandler`); the next record follows
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
"""Seconds before another try; doubled each time."""

WAIT_DELAY = 1.0
"""Seconds between two tries while a part that is needed does not answer."""

TRIES = 5
"""Failures of one record in a row before it is dead-lettered: some 8 seconds, in which what only
looked like the record's fault is over."""

UNAVAILABLE = (UnavailableError, *KAFKA_OUTAGES)
"""Errors of the parts around a consumer, and of no record."""

T = TypeVar("T")


def place_of(record: KafkaRecord) -> str:
    """Where a record stands and of which file it is, for the log."""
    key = (record.key or b"").decode(errors="replace")[:200]
    return f"{record.topic}:{record.partition}@{record.offset} of {key!r}"


def places_of(records: Sequence[KafkaRecord]) -> str:
    """Where the records of a batch stand: of each partition the first and the last offset."""
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
    """Log an error that nobody foresaw, with its traceback and where it happened, and count it."""
    CONSUMER_ERRORS.labels(consumer=consumer).inc()
    log.error("%s failed on %s: %r", consumer, where, error, exc_info=error)


def raise_if_cancelled() -> None:
    """Raise what is handled now if somebody has cancelled this task.

    Libraries also raise `CancelledError` where something of their own was cancelled.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise  # noqa: PLE0704 - called while an exception is handled


async def until_done(
    act: Callable[[], Awaitable[T]], *, consumer: str, where: Callable[[], str]
) -> T:
    """Do something until it succeeds: for what must not be skipped and has no guilty record.

    Args:
        consumer: its name in logs and metrics.
        where: says which records it is about, for the log.
    """
    delay = FIRST_DELAY
    while True:
        try:
            return await act()
        except UNAVAILABLE as error:
            log.warning("%s waits: %s", consumer, error or repr(error))
            await asyncio.sleep(WAIT_DELAY)
        except (Exception, asyncio.CancelledError) as error:
            raise_if_cancelled()
            note_error(consumer, error, where())
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)


class LetterWriter(Protocol):
    """Whatever takes the records that are put aside."""

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        """Put a record aside; returns once it is safe."""


class DeadLetterWriter:
    """Puts records aside into `file.dead`, for as long as it takes."""

    def __init__(self, publisher: Publisher | None, *, source: str) -> None:
        """Args:
        publisher: None where nothing is published: a replay logs what the live projector put aside.
        source: who puts aside, as events name it: `/projector`.
        """
        self._publisher = publisher
        self._source = source

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        """Put a record aside; returns once Kafka has the letter."""
        log.warning("%s record %s: %.500s", code.value, place_of(record), ascii(reason))
        DEAD_LETTERS.labels(code=code.value).inc()
        publisher = self._publisher
        if publisher is None:
            return
        letter = dead_letter(record, reason, source=self._source, code=code)

        async def publish() -> None:
            try:
                await publisher.publish(letter)
            except EventTooLargeError:  # Kafka is configured to take less than usual.
                await publisher.publish(without_payload(letter))

        await until_done(publish, consumer=self._source, where=lambda: place_of(record))


class RecordHandler:
    """Has single records handled; one that fails again and again is dead-lettered."""

    def __init__(self, consumer: str, letters: DeadLetterWriter, *, tries: int = TRIES) -> None:
        self._consumer = consumer
        self._letters = letters
        self._tries = tries

    async def handle(self, record: KafkaRecord, act: Callable[[], Awaitable[None]]) -> None:
        """Return once `act` has succeeded, or the record is dead-lettered."""
        delay = FIRST_DELAY
        failures = 0
        while True:
            try:
                await act()
                return
            except UNAVAILABLE as error:
                log.warning("%s waits: %s", self._consumer, error or repr(error))
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

"""Publish the start and outcome of each attempt, and schedule what follows."""

import asyncio
import functools
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from services.processor.control import CancelRequests
from services.processor.failures import failure
from services.processor.pace import Pace
from services.processor.retry import Backoff, GiveUp, decide
from services.processor.settings import ProcessorSettings
from services.processor.verdict import Verdict
from services.processor.work import Work
from shared.errors import EventTooLargeError, KafkaUnavailableError
from shared.events.events import (
    CancelledData,
    CompletedData,
    Event,
    FailedData,
    FileCancelled,
    FileCompleted,
    FileDead,
    FileFailed,
    FileProcessing,
    FileRetrying,
    FileRetryScheduled,
    ProcessingData,
    RetryingData,
    RetryScheduledData,
    utc_now,
)
from shared.events.facts import DeadCode, DeadData, Failure, Progress, Result
from shared.events.reading import UnreadableEventError
from shared.events.topics import CONTROL, Topic
from shared.kafka.consuming import TRIES, DeadLetterWriter
from shared.kafka.deadletters import MAX_REASON
from shared.kafka.messaging import KafkaRecord
from shared.kafka.publishing import Publisher
from shared.telemetry import ATTEMPTS, UNREADABLE

log = logging.getLogger(__name__)

SOURCE = "/processor"

PUBLISH_RETRY_DELAY = 1.0
"""Seconds between two tries to publish an outcome: finished work must not be repeated."""

_attempts = functools.cache(ATTEMPTS.labels)
"""Cached because looking up a counter by label takes longer than incrementing it."""

POD_LOST = Failure(
    code="worker_crashed",
    message="The processor of this file crashed or stopped responding. "
    "The attempt counts only if that happens again.",
    retryable=True,
)

POD_KILLER = failure(
    "worker_crashed", "The processor of this file crashed or stopped responding on every attempt."
)


class Outcomes:
    """Publishes the outcomes of attempts. Each method returns after Kafka has acknowledged them."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        publisher: Publisher,
        cancels: CancelRequests,
        pace: Pace,
    ) -> None:
        self._pod = settings.pod
        self._publisher = publisher
        self._letters = DeadLetterWriter(publisher, source=SOURCE)
        self._cancels = cancels
        self._acknowledgement = pace.acknowledgement
        self._backoff = Backoff(first=settings.backoff_first, limit=settings.backoff_max)
        self._pending: set[asyncio.Future[None]] = set()
        self.verify_ownership: Callable[[KafkaRecord], Awaitable[None]] = _assume_ownership
        """Returns once the group has confirmed that this pod owns a record."""
        self.ensure_ownership: Callable[[KafkaRecord], Awaitable[None]] = _assume_ownership
        """The same, but without a round trip if ownership was confirmed a moment ago."""

    async def begun(self, work: Work, time_limit: float) -> None:
        """Publish that a worker has started; its acknowledgement is part of the outcome's.

        Args:
            time_limit: seconds that the attempt may take.
        """
        limit = time_limit if math.isfinite(time_limit) else None  # JSON has no infinity.
        data = ProcessingData(**work.counts, pod=self._pod, time_limit=limit)
        try:
            await self._publisher.post(FileProcessing.of(work.file_id, data, source=SOURCE))
        except KafkaUnavailableError as error:
            log.warning("%s", error)  # The outcome supersedes it, and waits for Kafka.

    async def completed(self, work: Work, result: Result) -> None:
        """Publish that the work succeeded."""
        data = CompletedData(**work.counts, result=result)
        try:
            with self._pending_outcome():
                await self._settle(work, FileCompleted.of(work.file_id, data, source=SOURCE))
            _attempts("completed").inc()
        except EventTooLargeError as error:
            await self.failed(work, Verdict(error=_result_too_large(error)))

    async def flush(self, timeout: float) -> None:  # noqa: ASYNC109 - late outcomes are left alone
        """Wait until pending outcomes are published, or for `timeout` seconds.

        If an outcome is published but its record not committed, another pod repeats the work.
        """
        if self._pending:
            await asyncio.wait(set(self._pending), timeout=timeout)

    async def failed(
        self, work: Work, verdict: Verdict, *, progress: Progress | None = None
    ) -> None:
        """Schedule the next attempt or fail the file, and publish the decision.

        An attempt that does not count still has a number; the limit is therefore raised by one.
        """
        now, error = utc_now(), verdict.error
        decision = decide(
            retryable=error.retryable,
            attempt=work.attempt,
            max_attempts=work.max_attempts,
            returned=work.returned,
            postponed=None if verdict.counts else work.postponed,
            backoff=self._backoff,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            now=now,
        )
        if isinstance(decision, GiveUp):
            await self._give_up(work, error, progress)
            return
        log.warning(
            "%s attempt %d: %s: %s; next one at %s",
            work.file_id,
            work.attempt,
            error.code,
            error.message,
            decision.due_at.isoformat(timespec="seconds"),
        )
        _attempts("retrying" if verdict.counts else "postponed").inc()
        released = int(not verdict.counts)
        scheduled = RetryScheduledData(
            run=work.run,
            attempt=work.attempt + 1,
            max_attempts=work.max_attempts + released,
            source=work.source,
            due_at=decision.due_at,
            error=error,
            pipeline=work.pipeline,
            returned=work.returned + released,
            postponed=0 if verdict.counts else work.postponed + 1,
            crash=verdict.crash if verdict.counts else work.last_crash,
        )
        work = replace(work, max_attempts=work.max_attempts + released)
        # After a rebalance or a freeze, another pod may own the record and make the next attempt.
        # If both scheduled it, every later attempt would be made twice.
        await self.verify_ownership(work.record)
        with self._pending_outcome():
            # Schedule before announcing: an announced retry must exist.
            event = FileRetryScheduled.of(work.file_id, scheduled, source=SOURCE)
            await self._publish(event, decision.tier.topic)
            await self._publish_retrying(work, error, decision.due_at)

    async def interrupted(self, lost: Work) -> None:
        """Publish that the death of a pod interrupted an attempt; fail the file after the last."""
        if lost.attempt >= lost.max_attempts:
            await self._give_up(lost, POD_KILLER, None)
        else:
            _attempts("retrying").inc()
            await self._publish_retrying(lost, POD_LOST, utc_now())

    async def cancelled(self, work: Work, reason: str) -> None:
        """Publish that a file was cancelled on request."""
        _attempts("cancelled").inc()
        data = CancelledData(**work.counts, reason=reason)
        await self._settle(work, FileCancelled.of(work.file_id, data, source=SOURCE))

    async def unreadable(self, record: KafkaRecord, error: UnreadableEventError) -> None:
        """Dead-letter an unreadable record with the reason."""
        UNREADABLE.inc()
        await self._letters.write(record, str(error), error.code)

    async def unprocessable(self, record: KafkaRecord, error: BaseException) -> None:
        """Dead-letter a record that the processor itself cannot handle, with the reason."""
        reason = f"{type(error).__name__}: {error}"
        await self._letters.write(record, reason, DeadCode.UNPROCESSABLE)

    async def failed_permanently(self, work: Work, error: BaseException) -> None:
        """Publish that the processor itself fails on a file; its record is a dead letter."""
        _attempts("failed").inc()
        meaning = f"The processor failed on it {TRIES} times in a row ({type(error).__name__})."
        data = FailedData(**work.counts, error=failure("internal", meaning))
        await self._settle(work, FileFailed.of(work.file_id, data, source=SOURCE))

    async def _give_up(self, work: Work, error: Failure, progress: Progress | None) -> None:
        log.warning("%s failed: %s: %s", work.file_id, error.code, error.message)
        _attempts("failed").inc()
        if error.retryable:
            await self._publish(_dead_letter_of(work, error), of=work.record)
        failed = FailedData(**work.counts, error=error, progress=progress)
        with self._pending_outcome():
            await self._settle(work, FileFailed.of(work.file_id, failed, source=SOURCE))

    @contextmanager
    def _pending_outcome(self) -> Iterator[None]:
        """Mark an outcome as pending during the block."""
        over = asyncio.get_running_loop().create_future()
        self._pending.add(over)
        try:
            yield
        finally:
            self._pending.discard(over)
            over.set_result(None)

    async def _settle(self, work: Work, outcome: Event) -> None:
        """Publish an outcome, and remove the cancel request that it settles.

        Publishing waits until no other pod can hold the record. Otherwise a lost attempt could end
        beside the one that replaced it.
        """
        await self._publish(outcome, of=work.record)
        if self._cancels.concerns(work.file_id, work.run):
            await self._publisher.forget(work.file_id, CONTROL)

    async def _publish_retrying(self, work: Work, error: Failure, due_at: datetime) -> None:
        retrying = RetryingData(**work.counts, error=error, next_attempt_at=due_at)
        await self._publish(FileRetrying.of(work.file_id, retrying, source=SOURCE))

    async def _publish(
        self, event: Event, topic: Topic | None = None, *, of: KafkaRecord | None = None
    ) -> None:
        """Publish an event, retrying until Kafka accepts it.

        Args:
            of: the record whose outcome this is; ownership is confirmed before each try.

        Raises:
            EventTooLargeError: the event exceeds Kafka's maximum record size.
        """
        while True:
            if of is not None:
                await self.ensure_ownership(of)
            try:
                with self._acknowledgement.measure():
                    await self._publisher.publish(event, topic)
                return
            except KafkaUnavailableError as error:
                log.warning("%s; retrying", error)
                await asyncio.sleep(PUBLISH_RETRY_DELAY)


def _dead_letter_of(work: Work, error: Failure) -> FileDead:
    """Build the dead letter of a file to rerun once the cause is fixed, without personal data."""
    data = DeadData(
        topic=work.record.topic,
        partition=work.record.partition,
        offset=work.record.offset,
        reason=error.message[:MAX_REASON],
        payload="",
        code=DeadCode.GIVEN_UP.value,
        error_code=error.code,
        run=work.run,
        attempt=work.attempt,
    )
    return FileDead.of(work.file_id, data, source=SOURCE)


async def _assume_ownership(_: KafkaRecord) -> None:
    """Accept any record: there is no consumer group to ask."""


def _result_too_large(error: EventTooLargeError) -> Failure:
    return Failure(
        code="result_too_large",
        message=f"The result is too large to publish. Move more into artifacts. {error}"[:500],
        retryable=False,
    )

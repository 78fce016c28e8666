"""One attempt at one file: tell that it began, have it worked on, store and tell what came out."""

import asyncio
import logging
import random
from dataclasses import dataclass
from pathlib import Path

from services.processor.progress import ProgressReporter
from services.processor.retry import Backoff, GiveUp, decide
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.worker import Broken, Done, Job
from services.processor.workers import WorkerPool
from shared.blobs import BlobMissingError, BlobStore, attempt_prefix
from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError
from shared.events import (
    Artifact,
    CompletedData,
    FailedData,
    Failure,
    FileCompleted,
    FileFailed,
    FileProcessing,
    FileRequeued,
    FileRetrying,
    FileRetryScheduled,
    FileUploaded,
    ProcessingData,
    Progress,
    Result,
    RetryingData,
    RetryScheduledData,
    Source,
    utc_now,
)
from shared.messaging import Publisher
from shared.settings import DEMO_TYPE
from shared.telemetry import ATTEMPTS

log = logging.getLogger(__name__)

SOURCE = "/processor"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt that is to be made."""

    file_id: str
    run: int
    attempt: int
    max_attempts: int
    source: Source

    @property
    def counts(self) -> dict[str, int]:
        """What every event of this attempt carries."""
        return {"run": self.run, "attempt": self.attempt, "max_attempts": self.max_attempts}


def work_of(event: FileUploaded | FileRequeued | FileRetryScheduled, *, max_attempts: int) -> Work:
    """The attempt that an event asks for."""
    if isinstance(event, FileRetryScheduled):
        attempt, max_attempts = event.data.attempt, event.data.max_attempts
        source = event.data.source
    else:
        attempt = 1
        source = Source.model_validate(event.data, from_attributes=True)
    return Work(
        file_id=event.file_id,
        run=event.data.run,
        attempt=attempt,
        max_attempts=max_attempts,
        source=source,
    )


class Runner:
    """Makes attempts. When `make_attempt` returns, Kafka has acknowledged the outcome."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        publisher: Publisher,
        blobs: BlobStore,
        pool: WorkerPool,
        scratch: Scratch,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._blobs = blobs
        self._pool = pool
        self._scratch = scratch
        self._backoff = Backoff(first=settings.backoff_first, limit=settings.backoff_max)

    async def make_attempt(self, work: Work) -> None:
        """Work on a file once and publish what came out.

        If it is cancelled, it publishes nothing more: the partition belongs to another pod.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish_beginning(work))
                reporter = ProgressReporter(self._publisher, work.file_id, work.counts, group)
                outcome = await self._work_in_scratch(work, reporter)
        except* KafkaUnavailableError as errors:
            raise errors.exceptions[0] from None
        if isinstance(outcome, Result):
            ATTEMPTS.labels("completed").inc()
            data = CompletedData(**work.counts, result=outcome)
            await self._publisher.publish(FileCompleted.of(work.file_id, data, source=SOURCE))
        else:
            await self.fail_attempt(work, outcome, progress=reporter.latest)

    async def fail_attempt(
        self, work: Work, error: Failure, *, progress: Progress | None = None
    ) -> None:
        """Schedule the next attempt, or give the file up, and tell which."""
        now = utc_now()
        decision = decide(
            retryable=error.retryable,
            attempt=work.attempt,
            max_attempts=work.max_attempts,
            backoff=self._backoff,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            now=now,
        )
        if isinstance(decision, GiveUp):
            log.warning("%s failed: %s: %s", work.file_id, error.code, error.message)
            ATTEMPTS.labels("failed").inc()
            failed = FailedData(**work.counts, error=error, progress=progress)
            await self._publisher.publish(FileFailed.of(work.file_id, failed, source=SOURCE))
            return
        log.warning(
            "%s attempt %d: %s: %s; next one at %s",
            work.file_id,
            work.attempt,
            error.code,
            error.message,
            decision.due_at.isoformat(timespec="seconds"),
        )
        ATTEMPTS.labels("retrying").inc()
        scheduled = RetryScheduledData(
            run=work.run,
            attempt=work.attempt + 1,
            max_attempts=work.max_attempts,
            source=work.source,
            due_at=decision.due_at,
            error=error,
        )
        retrying = RetryingData(**work.counts, error=error, next_attempt_at=decision.due_at)
        # The work itself first: if only one of the two arrives, it must not be the announcement.
        await self._publisher.publish(
            FileRetryScheduled.of(work.file_id, scheduled, source=SOURCE), decision.tier.topic
        )
        await self._publisher.publish(FileRetrying.of(work.file_id, retrying, source=SOURCE))

    async def _publish_beginning(self, work: Work) -> None:
        data = ProcessingData(**work.counts, pod=self._settings.pod)
        await self._publisher.publish(FileProcessing.of(work.file_id, data, source=SOURCE))

    async def _work_in_scratch(self, work: Work, reporter: ProgressReporter) -> Result | Failure:
        try:
            with self._scratch.attempt() as folder:
                return await self._work(work, folder, reporter)
        except Exception as error:
            log.exception("attempt %d at %s", work.attempt, work.file_id)
            return Failure(code="internal", message=type(error).__name__, retryable=True)

    async def _work(self, work: Work, folder: Path, reporter: ProgressReporter) -> Result | Failure:
        if work.source.content_type == DEMO_TYPE and not self._settings.demo:
            return Failure(
                code="demo_disabled",
                message="Demo files are not processed here; set WAYBILL_DEMO=true.",
                retryable=False,
            )
        try:
            job = Job(
                path=await self._fetch(work.source.blob, folder),
                scratch=folder,
                content_type=work.source.content_type,
                size=work.source.size,
                run=work.run,
                attempt=work.attempt,
                ocr=self._settings.ocr,
            )
            outcome = await self._pool.run(job, reporter.advance)
            if isinstance(outcome, Broken):
                return outcome.error
            return await self._store(work, outcome)
        except BlobMissingError:
            return Failure(
                code="blob_missing",
                message="The stored file is gone; upload it again.",
                retryable=False,
            )
        except BlobStoreUnavailableError as error:
            return Failure(code=error.code, message=error.detail, retryable=True)

    async def _fetch(self, key: str, folder: Path) -> Path:
        """The stored file as a file on this machine."""
        local = self._blobs.local_path(key)
        if local is not None:
            if not local.is_file():
                raise BlobMissingError(key)
            return local
        path = folder / "source"
        with path.open("wb") as file:
            async for chunk in await self._blobs.stream(key):
                await asyncio.to_thread(file.write, chunk)
        return path

    async def _store(self, work: Work, done: Done) -> Result:
        """Put the artifacts into the blob store, under a prefix of this attempt's own."""
        prefix = attempt_prefix(work.file_id, work.run, work.attempt)
        for artifact in done.artifacts:
            await self._blobs.put_file(f"{prefix}/{artifact.name}", artifact.path)
        return Result(
            prefix=prefix,
            artifacts=tuple(
                Artifact(name=each.name, content_type=each.content_type, size=each.size)
                for each in done.artifacts
            ),
            statistics=done.statistics,
        )

"""One attempt at one file: publish its start, process it, store artifacts, publish the outcome."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from services.processor.channel import Broken, Done, GarbledError, Job
from services.processor.failures import failure
from services.processor.machine import fault_of_pod
from services.processor.offsets import Begun
from services.processor.outcomes import Outcomes
from services.processor.output_files import OutputFileError
from services.processor.plugins import Pipelines
from services.processor.progress import ProgressReporter
from services.processor.results import cleaned
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.source import ContentChangedError, Sources
from services.processor.space import ScratchSpace
from services.processor.verdict import DiskEvidence, Verdict, blame_disk, blame_machine, judge
from services.processor.work import JobEvent, Work, work_of
from services.processor.workers import WorkerPools
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.blobs.places import attempt_prefix
from shared.errors import BlobStoreUnavailableError
from shared.events.facts import Artifact, Failure, Result
from shared.kafka.messaging import KafkaRecord
from shared.kafka.publishing import Publisher
from shared.settings import DEMO_TYPE

log = logging.getLogger(__name__)

STORE_TIMEOUT = 300.0
"""Seconds that an attempt waits for an unavailable blob store before it is postponed: longer than a
restart of the store takes. Freeing its slot would not help: other files need the store too."""

FIRST_STORE_DELAY, LONGEST_STORE_DELAY = 0.5, 15.0
"""Seconds before the store is tried again: first and longest delay; doubled each time."""

T = TypeVar("T")


class Runner:
    """Makes attempts. `make_attempt` returns after Kafka has acknowledged the outcome."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        publisher: Publisher,
        outcomes: Outcomes,
        blobs: BlobStore,
        pool: WorkerPools,
        scratch: Scratch,
        space: ScratchSpace,
        pipelines: Pipelines,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._outcomes = outcomes
        self._blobs = blobs
        self._pool = pool
        self._scratch = scratch
        self._space = space
        self._sources = Sources(blobs)
        self._pipelines = pipelines

    def work_of(
        self, event: JobEvent, record: KafkaRecord, before: Begun, *, many_suspects: bool = False
    ) -> Work:
        """Build the attempt that an event asks for, with the pipeline that matches the file.

        Args:
            before: attempts at this record according to the ledger.
            many_suspects: True if pods also died repeatedly on other files.
        """
        return work_of(
            event,
            record,
            before,
            max_attempts=self._settings.max_attempts,
            pipelines=self._pipelines,
            many_suspects=many_suspects,
        )

    async def make_attempt(self, work: Work) -> None:
        """Process a file once and publish the outcome.

        When cancelled, it publishes nothing more: another pod owns the partition, or a user has
        cancelled the file.
        """
        reporter = ProgressReporter(self._publisher, work.file_id, work.counts)
        outcome = await self._work_in_scratch(work, reporter)
        if isinstance(outcome, Result):
            await self._outcomes.completed(work, outcome)
        else:
            await self._outcomes.failed(work, outcome, progress=reporter.latest)

    async def _work_in_scratch(self, work: Work, reporter: ProgressReporter) -> Result | Verdict:
        folder = self._scratch.attempt()
        try:
            return await self._work(work, folder, reporter)
        except Exception as error:
            log.exception("attempt %d at %s failed unexpectedly", work.attempt, work.file_id)
            if found := fault_of_pod(error):
                return blame_machine(found, postponed=work.postponed)
            return Verdict(
                error=Failure(code="internal", message=type(error).__name__, retryable=True)
            )
        finally:
            await self._scratch.discard(folder)

    async def _work(self, work: Work, folder: str, reporter: ProgressReporter) -> Result | Verdict:
        if work.source.content_type == DEMO_TYPE and not self._settings.demo:
            return Verdict(error=failure("demo_disabled"))
        began = time.monotonic()
        try:
            fetched = await _retry_while_unavailable(
                work, lambda: self._sources.fetch(work.source, folder)
            )
            job = Job(
                source=fetched,
                scratch=folder,
                content_type=work.source.content_type,
                size=work.source.size,
                run=work.run,
                attempt=work.attempt,
                ocr=self._settings.ocr,
                plugin=self._pipelines.job_of(work.pipeline),
            )
            outcome = await self._pool.run(
                job, reporter.advance, on_start=partial(self._outcomes.begun, work)
            )
            if isinstance(outcome, Broken):
                outcome.error = cleaned(outcome.error)
                if outcome.error.code == "blob_missing":
                    return await self._missing(work)
                return await self._judge(work, outcome, folder, began)
            self._space.check_if_stale()
            if self._space.was_empty_since(began):
                # The output may be truncated without any step having noticed.
                disk = self._disk_since(began)
                return blame_disk(failure("disk_full"), disk=disk, postponed=work.postponed)
            return await _retry_while_unavailable(work, lambda: self._store(work, outcome, folder))
        except BlobMissingError:
            return await self._missing(work)
        except ContentChangedError:
            return Verdict(error=failure("content_changed"))
        except BlobStoreUnavailableError as error:
            return blame_machine(failure(error.code), postponed=work.postponed)
        except (GarbledError, OutputFileError) as error:
            log.warning("attempt %d at %s: %s", work.attempt, work.file_id, error)
            return Verdict(error=failure("worker_garbled"))

    async def _missing(self, work: Work) -> Verdict:
        """Judge a missing blob: the file no longer exists, or its volume is not mounted."""
        try:
            await self._blobs.check_volume()
        except BlobStoreUnavailableError as error:
            return blame_machine(failure(error.code), postponed=work.postponed)
        return Verdict(error=failure("blob_missing"))

    async def _judge(self, work: Work, broken: Broken, folder: str, began: float) -> Verdict:
        """Judge a failure that a worker reported.

        Args:
            folder: directory of the attempt.
            began: time at which the attempt began, by `time.monotonic`.

        Raises:
            ContentChangedError: the worker read a file that does not match the upload.
            BlobStoreUnavailableError: the file cannot be read.
        """
        self._space.check(thoroughly=True)
        verdict = judge(
            broken.error,
            disk=self._disk_since(began, used=broken.used),
            crash=broken.crash,
            last_crash=work.last_crash,
            from_outside=broken.from_outside,
            postponed=work.postponed,
        )
        if verdict.error.code != broken.error.code:
            log.warning(
                "attempt %d at %s ended with %s, published as %s",
                work.attempt,
                work.file_id,
                broken.error.code,
                verdict.error.code,
            )
        if verdict.error.retryable or await self._sources.is_intact(work.source, folder):
            return verdict
        meaning = "The copy of the file in the scratch directory is damaged."
        return blame_machine(failure("machine_failed", meaning), postponed=work.postponed)

    def _disk_since(self, began: float, *, used: int = 0) -> DiskEvidence:
        was_full = self._space.was_full_since(began)
        return DiskEvidence(
            was_full=was_full,
            has_room_again=was_full and self._space.unavailable_reason is None,
            caused_by_file=used > self._space.total / 2,
        )

    async def _store(self, work: Work, done: Done, folder: str) -> Result:
        """Store the artifacts under a key prefix of this attempt."""
        prefix = attempt_prefix(work.file_id, work.run, work.attempt)
        for artifact, content in done.contents(folder):
            key = f"{prefix}/{artifact.name}"
            if isinstance(content, bytes):
                await self._blobs.put(key, content)
            else:
                await self._blobs.put_stream(key, content.read_block)
        return Result(
            prefix=prefix,
            artifacts=tuple(
                Artifact(name=each.name, content_type=each.content_type, size=each.size)
                for each in done.artifacts
            ),
            statistics=done.statistics,
        )


async def _retry_while_unavailable(work: Work, act: Callable[[], Awaitable[T]]) -> T:
    """Call `act`, retrying while the blob store is unavailable.

    Raises:
        BlobStoreUnavailableError: it is still unavailable after `STORE_TIMEOUT` seconds.
    """
    clock = asyncio.get_running_loop().time
    deadline, delay = clock() + STORE_TIMEOUT, FIRST_STORE_DELAY
    while True:
        try:
            return await act()
        except BlobStoreUnavailableError:
            if clock() + delay > deadline:
                raise
        log.warning(
            "attempt %d at %s waits %.1f s for the blob store", work.attempt, work.file_id, delay
        )
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_STORE_DELAY)

"""One attempt at one file: tell that it began, have it worked on, store and tell what came out."""

import asyncio
import logging
from pathlib import Path

from services.processor.outcomes import Outcomes
from services.processor.pace import RunningMean
from services.processor.progress import ProgressReporter
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.work import Work
from services.processor.worker import Broken, Done, Job
from services.processor.workers import WorkerPool
from shared.blobs import BlobMissingError, BlobStore, attempt_prefix
from shared.errors import BlobStoreUnavailableError
from shared.events import Artifact, Failure, Result
from shared.messaging import Publisher
from shared.settings import DEMO_TYPE

log = logging.getLogger(__name__)

USUAL_WORK = 0.1
"""Seconds of work on one file, before there is a measurement."""


class Runner:
    """Makes attempts. When `make_attempt` returns, Kafka has acknowledged the outcome."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        publisher: Publisher,
        outcomes: Outcomes,
        blobs: BlobStore,
        pool: WorkerPool,
        scratch: Scratch,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._outcomes = outcomes
        self._blobs = blobs
        self._pool = pool
        self._scratch = scratch
        self.work = RunningMean(USUAL_WORK)
        """How long a worker needs for a file."""

    async def make_attempt(self, work: Work) -> float:
        """Work on a file once and publish what came out.

        If it is cancelled, it publishes nothing more: the partition belongs to another pod, or
        somebody does not want the work done any more.

        Returns:
            How many seconds a worker needed.
        """
        await self._outcomes.begun(work)
        reporter = ProgressReporter(self._publisher, work.file_id, work.counts)
        outcome = await self._work_in_scratch(work, reporter)
        if isinstance(outcome, Result):
            await self._outcomes.completed(work, outcome)
        else:
            await self._outcomes.failed(work, outcome, progress=reporter.latest)
        return self.work.seconds

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
            started = asyncio.get_running_loop().time()
            outcome = await self._pool.run(job, reporter.advance)
            self.work.add(asyncio.get_running_loop().time() - started)
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

"""One attempt at one file: tell that it began, have it worked on, store and tell what came out."""

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from services.processor.channel import Broken, Done, GarbledError, Job, Packed
from services.processor.failures import failure, is_disk_full
from services.processor.offsets import Begun
from services.processor.outcomes import Outcomes
from services.processor.plugins import Pipelines
from services.processor.progress import ProgressReporter
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.work import Work, WorkEvent, work_of
from services.processor.workers import WorkerPools
from shared.bloberrors import BlobMissingError
from shared.blobs import BlobStore
from shared.errors import BlobStoreUnavailableError
from shared.facts import Artifact, Failure, Result, Source
from shared.messaging import KafkaRecord
from shared.places import attempt_prefix
from shared.publishing import Publisher
from shared.settings import DEMO_TYPE

log = logging.getLogger(__name__)

STORE_PATIENCE = 300.0
"""Seconds that an attempt waits for a blob store that does not answer, before it counts as failed:
longer than a restart of the store takes. Its place would be of no use to another file meanwhile,
since that one needs the store too."""

FIRST_STORE_DELAY, LONGEST_STORE_DELAY = 0.5, 15.0
"""Seconds before the store is asked again; doubled each time."""

T = TypeVar("T")


class _ChangedError(Exception):
    """The stored file is not the one that was announced."""


class Runner:
    """Makes attempts. When `make_attempt` returns, Kafka has acknowledged the outcome."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        publisher: Publisher,
        outcomes: Outcomes,
        blobs: BlobStore,
        pool: WorkerPools,
        scratch: Scratch,
        pipelines: Pipelines,
    ) -> None:
        self._settings = settings
        self._publisher = publisher
        self._outcomes = outcomes
        self._blobs = blobs
        self._pool = pool
        self._scratch = scratch
        self._pipelines = pipelines

    def work_of(self, event: WorkEvent, record: KafkaRecord, before: Begun) -> Work:
        """The attempt that an event asks for, by the pipeline that is for its file.

        Args:
            before: what the ledger tells of attempts at this record.
        """
        return work_of(
            event,
            record,
            before,
            max_attempts=self._settings.max_attempts,
            pipelines=self._pipelines,
        )

    async def make_attempt(self, work: Work) -> None:
        """Work on a file once and publish what came out.

        If it is cancelled, it publishes nothing more: the partition belongs to another pod, or
        somebody does not want the work done any more.
        """
        reporter = ProgressReporter(self._publisher, work.file_id, work.counts)
        outcome = await self._work_in_scratch(work, reporter)
        if isinstance(outcome, Result):
            await self._outcomes.completed(work, outcome)
        else:
            await self._outcomes.failed(work, outcome, progress=reporter.latest)

    async def _work_in_scratch(self, work: Work, reporter: ProgressReporter) -> Result | Failure:
        folder = self._scratch.attempt()
        try:
            return await self._work(work, folder, reporter)
        except Exception as error:
            log.exception("attempt %d at %s", work.attempt, work.file_id)
            return Failure(code="internal", message=type(error).__name__, retryable=True)
        finally:
            await self._scratch.discard(folder)

    async def _work(self, work: Work, folder: str, reporter: ProgressReporter) -> Result | Failure:
        if work.source.content_type == DEMO_TYPE and not self._settings.demo:
            return Failure(
                code="demo_disabled",
                message="Demo files are not processed here; set WAYBILL_DEMO=true.",
                retryable=False,
            )
        try:
            job = Job(
                source=await _patiently(work, lambda: self._fetch(work.source, folder)),
                scratch=folder,
                content_type=work.source.content_type,
                size=work.source.size,
                run=work.run,
                attempt=work.attempt,
                ocr=self._settings.ocr,
                plugin=self._pipelines.job_of(work.pipeline),
            )
            outcome = await self._pool.run(
                job, reporter.advance, on_taken=partial(self._outcomes.begun, work)
            )
            if isinstance(outcome, Broken):
                return outcome.error
            return await _patiently(work, lambda: self._store(work, outcome, folder))
        except BlobMissingError:
            return failure("blob_missing")
        except _ChangedError:
            return failure("content_changed")
        except BlobStoreUnavailableError as error:
            return Failure(code=error.code, message=error.detail, retryable=True)
        except GarbledError as error:
            log.warning("attempt %d at %s: %s", work.attempt, work.file_id, error)
            return failure("worker_garbled")
        except OSError as error:
            if is_disk_full(error):
                return failure("disk_full")
            raise

    async def _fetch(self, source: Source, folder: str) -> str | Packed:
        """The stored file as a file on this machine, or where a worker finds it.

        Raises:
            BlobMissingError: it is gone.
            _ChangedError: what comes over the network is not what its hash tells of.
        """
        if packs := self._blobs.packs_of(source.blob):
            return Packed(root=str(packs.root), key=source.blob, sha256=source.sha256)
        local = self._blobs.local_path(source.blob)
        if local is not None:
            # A path of pathlib takes as long as the look.
            if not os.path.isfile(local):  # noqa: ASYNC240, PTH113
                raise BlobMissingError(source.blob)
            return local
        path = Path(folder) / "source"
        await asyncio.to_thread(path.parent.mkdir, exist_ok=True)
        sha256 = hashlib.sha256()
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                sha256.update(chunk)
                file.write(chunk)

            async for chunk in await self._blobs.stream(source.blob):
                await asyncio.to_thread(write, chunk)
        if source.sha256 not in (None, sha256.hexdigest()):
            raise _ChangedError
        return str(path)

    async def _store(self, work: Work, done: Done, folder: str) -> Result:
        """Put the artifacts into the blob store, under a prefix of this attempt's own."""
        prefix = attempt_prefix(work.file_id, work.run, work.attempt)
        for artifact, content in done.contents(folder):
            key = f"{prefix}/{artifact.name}"
            if isinstance(content, bytes):
                await self._blobs.put(key, content)
            else:
                await self._blobs.put_file(key, content)
        return Result(
            prefix=prefix,
            artifacts=tuple(
                Artifact(name=each.name, content_type=each.content_type, size=each.size)
                for each in done.artifacts
            ),
            statistics=done.statistics,
        )


async def _patiently(work: Work, act: Callable[[], Awaitable[T]]) -> T:
    """Do something that needs the blob store, again while that does not answer.

    Raises:
        BlobStoreUnavailableError: it does not answer for `STORE_PATIENCE` seconds.
    """
    clock = asyncio.get_running_loop().time
    deadline, delay = clock() + STORE_PATIENCE, FIRST_STORE_DELAY
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

"""One attempt with misbehaving components."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.processor.channel import Broken, Done, ProducedArtifact
from services.processor.control import CancelRequests
from services.processor.failures import failure
from services.processor.outcomes import Outcomes
from services.processor.output_files import FOLDER
from services.processor.pace import Pace
from services.processor.plugins import load_plugins
from services.processor.progress import ProgressReporter
from services.processor.run import Runner
from services.processor.scratch import Scratch
from services.processor.settings import ProcessorSettings
from services.processor.space import ScratchSpace
from services.processor.verdict import Verdict
from services.processor.work import Work
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.errors import BlobStoreUnavailableError
from shared.events.facts import Source
from shared.kafka.messaging import KafkaRecord
from shared.settings import Settings

SIZE = 1 << 20

AWAY = BlobStoreUnavailableError.code


def work_on(record: KafkaRecord | None = None) -> Work:
    source = Source(blob="x", content_type="text/plain", size=1)
    return Work(
        file_id="f",
        run=1,
        attempt=1,
        max_attempts=1,
        source=source,
        record=record or cast("KafkaRecord", SimpleNamespace(topic="t", partition=0, offset=7)),
    )


class Pool:
    """Completes each job at once and leaves one large artifact."""

    async def run(self, job: Any, *_: object, **__: object) -> Done:
        folder = Path(job.scratch) / FOLDER
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(bytes(SIZE))
        left = ProducedArtifact(name="a", content_type="text/plain", size=SIZE, inline=False)
        return Done(statistics={}, artifacts=[left])


class Blobs:
    """A store that receives less of an artifact than its size when it was opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def packs_of(self, _: str) -> None:
        return None

    def local_path(self, _: str) -> str:
        (self._folder / "x").write_bytes(b"x")
        return str(self._folder / "x")

    async def put_stream(self, _: str, read: Callable[[], Awaitable[bytes]]) -> None:
        for path in self._folder.rglob(f"{FOLDER}/0"):
            os.truncate(path, 10)
        while await read():
            pass


async def test_an_artifact_that_its_worker_shortens_is_the_workers_fault(tmp_path: Path) -> None:
    settings = ProcessorSettings()
    scratch = Scratch(str(tmp_path))
    runner = Runner(
        settings=settings,
        publisher=cast("Any", None),
        outcomes=cast("Any", Listener()),
        blobs=cast("Any", Blobs(tmp_path)),
        pool=cast("Any", Pool()),
        scratch=scratch,
        space=ScratchSpace(tmp_path),
        pipelines=load_plugins(()),
    )
    work = work_on()
    reporter = ProgressReporter(cast("Any", None), "f", work.counts)
    verdict = await runner._work_in_scratch(work, reporter)
    assert isinstance(verdict, Verdict)
    assert (verdict.error.code, verdict.counts) == ("worker_garbled", True)
    scratch.remove()


class Listener:
    """Records that an attempt has started."""

    async def begun(self, *_: object) -> None:
        """Record the call."""


async def test_a_lost_attempt_that_failed_leaves_no_dead_letter() -> None:
    settings, published = ProcessorSettings(), list[Any]()

    class Recorder:
        async def publish(self, event: Any, *_: object) -> None:
            published.append(event)

    outcomes = Outcomes(
        settings=settings,
        publisher=cast("Any", Recorder()),
        cancels=CancelRequests(settings),
        pace=Pace(),
    )

    async def never(_: KafkaRecord) -> None:
        raise asyncio.CancelledError  # The record was assigned to another pod.

    outcomes.ensure_ownership = never
    with pytest.raises(asyncio.CancelledError):
        await outcomes.failed(work_on(), Verdict(error=failure("worker_garbled")))
    assert published == []


@pytest.mark.parametrize(("is_mounted", "code"), [(True, "blob_missing"), (False, AWAY)])
async def test_a_file_is_missing_only_where_its_directory_is_mounted(
    tmp_path: Path, *, is_mounted: bool, code: str
) -> None:
    root, aside = tmp_path / "blobs", tmp_path / "volume"
    blobs = open_blob_store(Settings(blobs=str(root), blobs_fsync=False))
    if not is_mounted:
        root.rename(aside)
        root.mkdir()
    (root / "lost+found").mkdir()
    verdict = await attempt_with(blobs, Pool(), tmp_path / "scratch")
    assert (verdict.error.code, verdict.error.retryable) == (code, not is_mounted)
    assert verdict.counts is is_mounted


async def test_a_file_that_goes_after_it_was_fetched_is_missing_only_where_it_is_mounted(
    tmp_path: Path,
) -> None:
    root, aside = tmp_path / "blobs", tmp_path / "volume"
    blobs = open_blob_store(Settings(blobs=str(root), blobs_fsync=False))
    await blobs.put("x", b"x")

    class Late:
        async def run(self, *_: object, **__: object) -> Broken:
            root.rename(aside)
            root.mkdir()
            return Broken(error=failure("blob_missing"))

    verdict = await attempt_with(blobs, Late(), tmp_path / "scratch")
    assert (verdict.error.code, verdict.counts) == (AWAY, False)


async def attempt_with(blobs: BlobStore, pool: Any, folder: Path) -> Verdict:
    folder.mkdir()
    scratch = Scratch(str(folder))
    runner = Runner(
        settings=ProcessorSettings(),
        publisher=cast("Any", None),
        outcomes=cast("Any", Listener()),
        blobs=blobs,
        pool=pool,
        scratch=scratch,
        space=ScratchSpace(folder),
        pipelines=load_plugins(()),
    )
    work = work_on()
    reporter = ProgressReporter(cast("Any", None), "f", work.counts)
    verdict = await runner._work_in_scratch(work, reporter)
    assert isinstance(verdict, Verdict)
    scratch.remove()
    return verdict

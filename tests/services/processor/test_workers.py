"""A job cannot affect anything beyond its own process."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.processor.channel import MAX_CONTENT, Advanced, Broken, Done, Job, Packed
from services.processor.isolation.limits import Limits
from services.processor.source import ContentChangedError
from services.processor.workers import WorkerPool
from shared.blobs.packs import Packs, PackWriter
from tests.services.processor.jobs import demo, ignore, packed

MEMORY_LIMIT = 512 << 20


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(size=1, folder=tmp_path, limits=Limits(memory=MEMORY_LIMIT), time_limit=3.0)
    await pool.start()
    yield pool
    await pool.stop()


async def broken_code(pool: WorkerPool, job: Job) -> tuple[str, bool]:
    outcome = await pool.run(job, ignore)
    assert isinstance(outcome, Broken), outcome
    return outcome.error.code, outcome.error.retryable


async def test_a_job_gives_back_its_statistics_and_its_artifacts(
    pool: WorkerPool, tmp_path: Path
) -> None:
    outcome = await pool.run(demo(tmp_path, steps=3, seconds=0.01), ignore)
    assert isinstance(outcome, Done)
    assert outcome.statistics["steps"] == 3
    ((artifact, content),) = outcome.contents(str(tmp_path))
    assert artifact.name == "demo.json"
    assert isinstance(content, bytes)
    assert json.loads(content)["steps"] == 3


async def test_progress_arrives_while_the_job_runs_with_its_first_and_its_last_report(
    pool: WorkerPool, tmp_path: Path
) -> None:
    reports: list[Advanced] = []
    await pool.run(demo(tmp_path, seconds=1, steps=100), reports.append)
    working = [each.progress.done for each in reports if each.phase == "working"]
    assert working[-1] == 100
    assert working == sorted(working)
    assert len(working) < 10, "the reports are limited to about four a second"


async def test_a_step_that_fails_for_good_is_not_retryable(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert await broken_code(pool, demo(tmp_path, then="fail")) == ("demo_failed", False)


async def test_a_step_that_fails_for_now_is_retryable(pool: WorkerPool, tmp_path: Path) -> None:
    assert await broken_code(pool, demo(tmp_path, then="retry")) == ("demo_retry", True)
    assert isinstance(await pool.run(demo(tmp_path, then="retry", attempt=2), ignore), Done)


async def test_a_cancelled_job_is_killed_and_frees_its_place(
    pool: WorkerPool, tmp_path: Path
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await pool.run(demo(tmp_path, seconds=60), ignore)
    assert isinstance(await pool.run(demo(tmp_path), ignore), Done)


class TestPackedFile:
    @pytest.fixture
    def writer(self, tmp_path: Path) -> Iterator[PackWriter]:
        writer = PackWriter(tmp_path / "blobs")
        yield writer
        writer.close()

    async def test_is_worked_on_as_one_of_its_own_is_also_after_a_longer_one(
        self, pool: WorkerPool, tmp_path: Path, writer: PackWriter
    ) -> None:
        for steps in (3, 1000, 2):
            job = packed(demo(tmp_path, steps=steps), writer)
            outcome = await pool.run(job, ignore)
            assert isinstance(outcome, Done), outcome
            assert outcome.statistics["steps"] == steps

    async def test_that_is_gone_says_so(
        self, pool: WorkerPool, tmp_path: Path, writer: PackWriter
    ) -> None:
        job = packed(demo(tmp_path), writer)
        assert isinstance(job.source, Packed)
        Packs(Path(job.source.root)).delete(job.source.key)
        assert await broken_code(pool, job) == ("blob_missing", False)

    async def test_that_is_not_what_its_hash_tells_of_is_not_worked_on(
        self, pool: WorkerPool, tmp_path: Path, writer: PackWriter
    ) -> None:
        job = packed(demo(tmp_path), writer, sha256="0" * 64)
        assert await broken_code(pool, job) == ("content_changed", False)

    async def test_that_is_large_and_not_what_its_hash_tells_of_is_not_worked_on(
        self, pool: WorkerPool, tmp_path: Path, writer: PackWriter
    ) -> None:
        job = packed(demo(tmp_path, padding="x" * MAX_CONTENT), writer, sha256="0" * 64)
        with pytest.raises(ContentChangedError):
            await pool.run(job, ignore)


def test_a_worker_imports_nothing_of_what_only_the_pod_needs() -> None:
    program = (
        "import runpy, sys\n"
        "runpy.run_module('services.processor.__main__', run_name='__mp_main__')\n"
        "import services.processor.worker\n"
        "print(*{'fastapi', 'aiokafka'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert not ran.stdout.strip()

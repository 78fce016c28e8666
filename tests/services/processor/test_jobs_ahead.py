"""While jobs are short, some are queued in each process, with no disadvantage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.processor.channel import Broken, Done
from services.processor.isolation.limits import Limits
from services.processor.pace import Pace, RunningGeometricMean
from services.processor.steps.demo_failures import DemoFailure
from services.processor.workers import AHEAD, SHORT, WorkerPool
from tests.services.processor.jobs import demo, ignore

Pool = Callable[..., AbstractAsyncContextManager[WorkerPool]]


@pytest.fixture
def running(tmp_path: Path) -> Pool:
    @asynccontextmanager
    async def pool_of(size: int, files: int = 20) -> AsyncIterator[WorkerPool]:
        folder = tmp_path / "pool"
        folder.mkdir()
        pool = WorkerPool(
            size=size,
            folder=folder,
            limits=Limits(memory=512 << 20, files=files),
            time_limit=10,
            pace=Pace(work=RunningGeometricMean(SHORT / 100)),
        )
        await pool.start()
        yield pool
        await pool.stop()

    return pool_of


def begin(pool: WorkerPool, folder: Path, **spec: Any) -> asyncio.Task[Done | Broken]:
    return asyncio.create_task(pool.run(demo(folder, **spec), ignore))


def loads(pool: WorkerPool) -> list[int]:
    return sorted(each.load for each in pool._workers)


async def test_a_process_has_no_more_than_a_few_in_front_of_it(
    running: Pool, tmp_path: Path
) -> None:
    async with running(2) as pool:
        more = range(2 * (1 + AHEAD) + 3)
        tasks = [begin(pool, tmp_path / str(number), seconds=0.1) for number in more]
        await asyncio.sleep(0)
        assert loads(pool) == [1 + AHEAD, 1 + AHEAD]
        assert all(isinstance(each, Done) for each in await asyncio.gather(*tasks))


async def test_a_job_behind_a_long_one_goes_to_the_process_that_is_free_first(
    running: Pool, tmp_path: Path
) -> None:
    async with running(2) as pool:
        long = begin(pool, tmp_path / "long", seconds=5)
        short = [begin(pool, tmp_path / str(number)) for number in range(2 * AHEAD + 1)]
        await asyncio.sleep(0)
        assert loads(pool) == [1 + AHEAD, 1 + AHEAD]
        assert all(isinstance(each, Done) for each in await asyncio.gather(*short))
        assert not long.done()
        long.cancel()


@pytest.mark.parametrize("how", ["crash", "exit", "garble", "memory", "quit", "shout"])
async def test_what_waits_behind_a_job_that_ends_badly_is_done(
    running: Pool, tmp_path: Path, how: DemoFailure
) -> None:
    async with running(1) as pool:
        bad = begin(pool, tmp_path / "bad", then=how)
        behind = [begin(pool, tmp_path / str(number)) for number in range(AHEAD + 1)]
        assert isinstance(await bad, Broken)
        assert all(isinstance(each, Done) for each in await asyncio.gather(*behind))


async def test_a_job_that_is_cancelled_while_it_waits_costs_no_process(
    running: Pool, tmp_path: Path
) -> None:
    async with running(1) as pool:
        (process,) = pool._workers
        first, unwanted, last = (
            begin(pool, tmp_path / str(number), seconds=0.3) for number in range(3)
        )
        await asyncio.sleep(0.1)
        unwanted.cancel()
        assert isinstance(await first, Done)
        assert isinstance(await last, Done)
        assert pool._workers == {process}
        assert process.accepts_jobs


async def test_a_job_that_is_cancelled_as_it_begins_is_done_no_further(
    running: Pool, tmp_path: Path
) -> None:
    async with running(1) as pool:
        first = begin(pool, tmp_path / "first")
        second = begin(pool, tmp_path / "second", seconds=60)
        last = begin(pool, tmp_path / "last")
        await first
        second.cancel()
        assert isinstance(await last, Done)


async def test_a_process_that_is_replaced_after_its_number_of_files_leaves_none_undone(
    running: Pool, tmp_path: Path
) -> None:
    async with running(2) as pool:
        tasks = [begin(pool, tmp_path / str(number)) for number in range(100)]
        outcomes = await asyncio.gather(*tasks)
        assert all(isinstance(each, Done) for each in outcomes)


async def test_a_process_that_has_ended_before_anybody_looks_leaves_none_undone(
    running: Pool, tmp_path: Path
) -> None:
    async with running(1, files=1) as pool:
        (process,) = pool._workers

        async def look_late(_: float) -> None:
            while process.alive:
                await asyncio.sleep(0.01)

        first = asyncio.create_task(pool.run(demo(tmp_path / "first"), ignore, on_start=look_late))
        others = [begin(pool, tmp_path / str(number)) for number in range(AHEAD)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(first, *others)
        assert all(isinstance(each, Done) for each in outcomes)


async def test_a_process_that_the_pod_ends_says_nothing_of_the_file_it_has_begun(
    running: Pool, tmp_path: Path
) -> None:
    async with running(1) as pool:
        (process,) = pool._workers
        task = begin(pool, tmp_path / "job", seconds=60)
        while not process.load:
            await asyncio.sleep(0)
        # As if a neighboring job had just been cancelled.
        await pool._retire(process, lost=False)
        outcome = await task
        assert isinstance(outcome, Broken)
        assert (outcome.error.code, outcome.from_outside) == ("worker_crashed", True)


async def test_a_process_that_dies_while_it_waits_is_replaced(
    running: Pool, tmp_path: Path
) -> None:
    async with running(1) as pool:
        (process,) = pool._workers
        process._kill()
        while process.alive:
            await asyncio.sleep(0.01)
        assert isinstance(await pool.run(demo(tmp_path / "job"), ignore), Done)


async def test_the_cause_of_a_death_is_told_whoever_comes_with_work_meanwhile(
    running: Pool, tmp_path: Path
) -> None:
    async with running(2) as pool:
        tasks = [begin(pool, tmp_path / f"bad-{number}", then="crash") for number in range(20)]
        while not all(task.done() for task in tasks):
            await pool.run(demo(tmp_path / "beside"), ignore)
        outcomes = [await task for task in tasks]
    codes = {each.error.code for each in outcomes if isinstance(each, Broken)}
    assert codes == {"worker_crashed"}

"""Every failure has its own code, and neither the pod nor its other jobs are affected."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from services.processor.channel import Broken, Done
from services.processor.failures import KINDS
from services.processor.isolation.limits import MAX_PROCESSES, Limits
from services.processor.steps.demo_failures import DEMO_FAILURES, DemoFailure
from services.processor.steps.media_types import DOCX
from services.processor.worker_process import MAX_OUTPUT, OUTPUT_TAIL
from services.processor.workers import WorkerPool
from tests.services.processor.jobs import demo, ignore
from tests.services.processor.steps.documents import docx_bomb

MEMORY_LIMIT = 512 << 20

CODES: dict[DemoFailure, str] = {
    "crash": "worker_crashed",
    "disk": "disk_full",
    "exit": "worker_exited",
    "garble": "worker_garbled",
    "hang": "timed_out",
    "interrupt": "step_failed",
    "memory": "out_of_memory",
    "odd": "bad_result",
    "oversize": "result_too_large",
    "quit": "worker_exited",
    "raise": "step_failed",
    "segfault": "segmentation_fault",
    "swarm": "too_many_processes",
    "shout": "too_much_output",
}


@pytest.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(
        size=2,
        folder=tmp_path_factory.mktemp("pool"),
        limits=Limits(memory=MEMORY_LIMIT),
        time_limit=3.0,
    )
    await pool.start()
    yield pool
    await pool.stop()


async def end_of(pool: WorkerPool, folder: Path, how: DemoFailure) -> Broken:
    """Run a failing job beside another job, and return the failure that the pool reports."""
    beside = asyncio.create_task(pool.run(demo(folder / "beside", seconds=0.3), ignore))
    outcome = await pool.run(demo(folder / "bad", then=how), ignore)
    assert isinstance(outcome, Broken), outcome
    assert isinstance(await beside, Done)
    for number in range(2):
        after = await pool.run(demo(folder / f"after-{number}"), ignore)
        assert isinstance(after, Done)
    kind = KINDS[CODES[how]]
    assert (outcome.error.code, outcome.error.retryable) == (kind.code, kind.retryable)
    assert outcome.error.message.endswith(kind.advice)
    return outcome


async def test_a_worker_that_is_killed_costs_one_attempt(pool: WorkerPool, tmp_path: Path) -> None:
    assert "SIGKILL" in (await end_of(pool, tmp_path, "crash")).error.message


async def test_a_full_disk_is_told_as_such(pool: WorkerPool, tmp_path: Path) -> None:
    await end_of(pool, tmp_path, "disk")


async def test_a_step_that_calls_sys_exit_costs_one_attempt(
    pool: WorkerPool, tmp_path: Path
) -> None:
    await end_of(pool, tmp_path, "exit")


async def test_a_step_that_ends_its_process_costs_one_attempt(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert "exit code 3" in (await end_of(pool, tmp_path, "quit")).error.message


async def test_a_worker_that_talks_nonsense_is_ended(pool: WorkerPool, tmp_path: Path) -> None:
    await end_of(pool, tmp_path, "garble")


async def test_work_that_hangs_is_killed_at_the_time_limit(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert "3 seconds" in (await end_of(pool, tmp_path, "hang")).error.message


async def test_a_step_that_raises_keyboard_interrupt_costs_one_attempt(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert "KeyboardInterrupt" in (await end_of(pool, tmp_path, "interrupt")).error.message


async def test_work_that_needs_too_much_memory_fails_alone(
    pool: WorkerPool, tmp_path: Path
) -> None:
    await end_of(pool, tmp_path, "memory")


async def test_a_result_that_cannot_be_told_fails_for_good(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert "statistics.odd" in (await end_of(pool, tmp_path, "odd")).error.message


async def test_a_result_that_is_too_large_fails_for_good(pool: WorkerPool, tmp_path: Path) -> None:
    await end_of(pool, tmp_path, "oversize")


async def test_an_error_that_cannot_say_what_it_is_is_told_by_its_name(
    pool: WorkerPool, tmp_path: Path
) -> None:
    assert "MuteError" in (await end_of(pool, tmp_path, "raise")).error.message


async def test_a_segmentation_fault_costs_one_attempt(pool: WorkerPool, tmp_path: Path) -> None:
    assert "SIGSEGV" in (await end_of(pool, tmp_path, "segfault")).error.message


async def test_a_swarm_of_processes_ends_with_the_work_that_started_it(tmp_path: Path) -> None:
    before = len(psutil.pids())
    limits = Limits(memory=MEMORY_LIMIT)
    pool = WorkerPool(size=2, folder=tmp_path, limits=limits, time_limit=60)
    await pool.start()
    await end_of(pool, tmp_path / "files", "swarm")
    await pool.stop()
    async with asyncio.timeout(20):
        while len(psutil.pids()) > before + MAX_PROCESSES // 2:
            await asyncio.sleep(0.05)


async def test_endless_output_drowns_neither_the_pod_nor_its_log(
    pool: WorkerPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    used = time.process_time()
    await end_of(pool, tmp_path, "shout")
    assert time.process_time() - used < 2, f"reading {MAX_OUTPUT} bytes takes milliseconds"
    assert "Lorem ipsum" in caplog.text
    assert len(caplog.text) < 3 * OUTPUT_TAIL


async def test_a_zip_bomb_fails_for_good_before_it_is_unpacked(
    pool: WorkerPool, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.docx"
    bomb.write_bytes(docx_bomb())
    beside = asyncio.create_task(pool.run(demo(tmp_path / "beside", seconds=0.3), ignore))
    job = demo(tmp_path / "bad").model_copy(
        update={"source": str(bomb), "content_type": DOCX, "size": bomb.stat().st_size}
    )
    outcome = await pool.run(job, ignore)
    assert isinstance(outcome, Broken), outcome
    assert (outcome.error.code, outcome.error.retryable) == ("decompression_bomb", False)
    assert not outcome.last, "the worker is not even harmed"
    assert isinstance(await beside, Done)


def test_every_bad_end_has_its_test() -> None:
    assert set(CODES) == set(DEMO_FAILURES)
    tests = Path(__file__).read_text()
    assert [how for how in DEMO_FAILURES if f', "{how}")' not in tests] == []


async def test_a_worker_that_dies_while_it_waits_costs_nothing(
    pool: WorkerPool, tmp_path: Path
) -> None:
    for process in list(pool._workers):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    for number in range(3):
        assert isinstance(await pool.run(demo(tmp_path / f"{number}"), ignore), Done)

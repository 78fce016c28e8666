"""The pod's view of how its worker processes end."""

import asyncio
import errno
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from services.processor import worker, worker_process
from services.processor.channel import Broken, Done, ProducedArtifact
from services.processor.death import cause_of_death
from services.processor.isolation.limits import Limits
from services.processor.leftovers import remove_leftovers
from services.processor.scratch import remove_tree
from services.processor.worker_process import _exit_code, _start
from services.processor.workers import WorkerPool
from tests.services.processor.jobs import demo, ignore


def test_each_of_many_processes_that_end_while_others_start_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Otherwise each would import the test runner, which takes longer than this test.
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])

    def end(_: int) -> int | None:
        process = context.Process(target=os._exit, args=(3,), daemon=True)
        _start(process)
        return _exit_code(process)

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(end, range(400)))
    assert set(codes) == {3}


@pytest.mark.parametrize("code", [None, 255])
def test_an_unknown_cause_of_death_is_not_blamed_on_the_file(code: int | None) -> None:
    error = cause_of_death(code)
    assert (error.code, error.retryable) == ("worker_crashed", True)
    assert "unknown reason" in error.message


async def test_a_process_that_does_not_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EAGAIN, "there are too many processes")

    monkeypatch.setattr(worker_process, "_start", fail)
    pool = WorkerPool(size=1, folder=tmp_path, limits=Limits(memory=512 << 20), time_limit=10)
    with pytest.raises(OSError, match="too many processes"):
        await pool.start()
    assert list(tmp_path.iterdir()) == []


def test_files_are_counted_however_deep_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "deep"
    path.mkdir()
    deepest = str(path)
    for _ in range(sys.getrecursionlimit() + 100):
        deepest += "/a"
        os.mkdir(deepest)  # noqa: PTH102 - `Path` recurses as well
    try:
        Path(deepest, "file").write_bytes(bytes(100_000))
        assert worker._bytes_in(path) >= 100_000
    finally:
        remove_tree(path)


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EACCES])
def test_leftovers_that_cannot_be_removed_cost_the_process_and_not_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    (tmp_path / "left").touch()

    def refuse(path: str) -> None:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert not remove_leftovers(tmp_path, kept="source")


@pytest.mark.parametrize("whom", ["all", "worker", "keeper"])
async def test_a_worker_that_somebody_asks_to_end_says_nothing_of_the_file(
    tmp_path: Path, whom: str
) -> None:
    """For example, systemd sends SIGTERM to every process of a service."""
    pool = WorkerPool(size=1, folder=tmp_path, limits=Limits(memory=512 << 20), time_limit=10)
    await pool.start()
    try:
        job = asyncio.create_task(pool.run(demo(tmp_path / "job", seconds=9), ignore))
        await asyncio.sleep(0.2)
        keeper = psutil.Process(next(iter(pool._workers)).pid)
        processes = [keeper, *keeper.children(recursive=True)]
        chosen = {"all": processes, "worker": processes[-1:], "keeper": processes[:1]}[whom]
        for each in chosen:
            each.terminate()
        outcome = await job
        assert isinstance(outcome, Broken)
        assert (outcome.error.code, outcome.crash) == ("worker_crashed", None)
        assert outcome.from_outside
    finally:
        await pool.stop()


async def test_the_death_of_the_fork_server_costs_one_attempt_and_it_is_started_again(
    tmp_path: Path,
) -> None:
    pool = WorkerPool(size=2, folder=tmp_path, limits=Limits(memory=512 << 20), time_limit=10)
    await pool.start()
    try:
        jobs = [
            asyncio.create_task(pool.run(demo(tmp_path / f"{number}", seconds=8), ignore))
            for number in range(2)
        ]
        await asyncio.sleep(0.2)
        fork_server = psutil.Process(next(iter(pool._workers)).pid).parent()
        assert fork_server is not None
        assert "forkserver" in " ".join(fork_server.cmdline())
        fork_server.kill()
        for outcome in await asyncio.gather(*jobs):
            assert isinstance(outcome, Broken), outcome
            assert (outcome.error.code, outcome.error.retryable) == ("worker_crashed", True)
        for number in range(3):
            after = await pool.run(demo(tmp_path / f"after-{number}"), ignore)
            assert isinstance(after, Done)
    finally:
        await pool.stop()


def test_an_outcome_that_fits_in_no_frame_is_broken_before_its_files_are_removed() -> None:
    artifact = ProducedArtifact(name="a" * 128, content_type="text/plain", size=1, inline=False)
    outcome, frame = worker._encoded(Done(last=True, statistics={}, artifacts=[artifact] * 50_000))
    assert isinstance(outcome, Broken)
    assert (outcome.error.code, outcome.last) == ("result_too_large", True)
    assert len(frame) < 1000

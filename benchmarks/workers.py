"""Measure the cost of a job in the pod and in its worker process.

The job is a no-op demo file. The floor is a process that echoes as many bytes over a socket pair,
with asyncio's cheapest reader in the pod.
"""

import argparse
import asyncio
import json
import os
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from benchmarks.harness import percentile, report, usage, usage_of_children
from services.processor.channel import Advanced, Broken, Job
from services.processor.isolation.limits import Limits
from services.processor.scratch import Scratch
from services.processor.workers import WorkerPool
from shared.settings import DEMO_TYPE

SIZE = 300
"""Bytes of a job, or of its outcome, on the socket, approximately."""

Act = Callable[[], Awaitable[object]]


async def row(name: str, act: Act, jobs: int, together: int) -> list[object]:
    """Return one row of the report: `jobs` jobs, `together` at a time."""
    took: list[float] = []

    async def some() -> None:
        for _ in range(jobs // together):
            begun = time.perf_counter()
            await act()
            took.append(time.perf_counter() - begun)

    for _ in range(200):
        await act()  # warm
    before = usage(os.getpid()).cpu, usage_of_children(os.getpid()).cpu
    begun = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(together)))
    seconds = time.perf_counter() - begun
    after = usage(os.getpid()).cpu, usage_of_children(os.getpid()).cpu
    return [
        name,
        together,
        percentile(took, 0.5) * 1e6,
        len(took) / seconds,
        (after[0] - before[0]) / len(took) * 1e6,
        (after[1] - before[1]) / len(took) * 1e6,
    ]


async def floor(jobs: int) -> list[object]:
    """Return the row of the floor: a process that echoes bytes over a socket pair."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        while data := theirs.recv(SIZE):
            theirs.sendall(data)
        os._exit(0)
    theirs.close()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()
    loop.add_reader(ours, lambda: answer.set_result(ours.recv(SIZE)))

    async def echo() -> None:
        nonlocal answer
        ours.send(b"x" * SIZE)
        await answer
        answer = loop.create_future()

    try:
        return await row("floor: echo", echo, jobs, 1)
    finally:
        loop.remove_reader(ours)
        ours.close()
        await asyncio.to_thread(os.waitpid, pid, 0)


async def pool(jobs: int, folder: Path, *, size: int, together: int) -> list[object]:
    """Return the row of jobs in the pool, run like an attempt."""
    source = folder / "source"
    source.write_text(json.dumps({}))
    scratch = Scratch(str(folder))
    workers = WorkerPool(
        size=size,
        folder=scratch.folder,
        limits=Limits(memory=1 << 30, files=jobs * 2 * together),
        time_limit=60,
    )
    await workers.start()

    def ignore(_: Advanced) -> None:
        pass

    async def do() -> None:
        job = Job(
            source=str(source),
            scratch=scratch.attempt(),
            content_type=DEMO_TYPE,
            size=2,
            run=1,
            attempt=1,
            ocr=False,
        )
        outcome = await workers.run(job, ignore)
        await scratch.discard(job.scratch)
        if isinstance(outcome, Broken):
            raise RuntimeError(outcome.error.message)

    try:
        return await row("pool", do, jobs, together)
    finally:
        await workers.stop()
        scratch.remove()


async def measure(jobs: int) -> None:
    """Print the report."""
    rows = [await floor(jobs)]
    with tempfile.TemporaryDirectory() as name:
        for size, together in ((1, 1), (2, 8)):
            rows.append(await pool(jobs, Path(name), size=size, together=together))
    header = ["way", "together", "p50 µs", "jobs/s", "CPU µs a job, pod", "CPU µs a job, worker"]
    report("workers", header, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    uvloop.run(measure(parser.parse_args().jobs))


if __name__ == "__main__":
    main()

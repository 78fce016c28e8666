"""Measure throughput with more pods and with more waiting files.

Each file sleeps for 50 ms, so that a few cores can show how many pods scale: the sleep and not the
cores limits the rate of two worker processes per pod. All files share one blob.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.harness import PATIENCE, QUIET, Meter, report, wait_until_quiet
from benchmarks.installation import Installation, publish, running_waybill, uploaded
from shared.events.events import FileUploaded, new_file_id
from shared.events.topics import LIFECYCLE
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher

WORK = 0.05
"""Seconds of sleep per file."""

BLOB = "benchmark/source"

POLL = 0.02
"""Seconds between two polls of MongoDB: at the measured rates, a few files each."""

TOGETHER = 5000
"""Events published together. More would only take memory."""

BUSY = (0.1, 0.6)
"""The share of a run in which every pod has work. With twelve partitions, four of eight pods have
two and four have one. The latter are done when two thirds of all files are.
"""


class Files:
    """Files with the same amount of work."""

    def __init__(self, installation: Installation, work: float) -> None:
        self._content = json.dumps({"seconds": work}).encode()
        installation.store(BLOB, self._content)

    def _new(self) -> FileUploaded:
        return uploaded(new_file_id(), BLOB, self._content)

    async def publish(self, publisher: Publisher, count: int) -> None:
        """Publish the uploads of so many new files."""
        while count > 0:
            await publish(publisher, [self._new() for _ in range(min(count, TOGETHER))])
            count -= TOGETHER


async def with_pods(pods: int, *, workers: int, seconds: float) -> list[Any]:
    """Return the row for so many pods. Its last column is the load of other processes.

    Args:
        seconds: duration of the run if the workers never waited.
    """
    with running_waybill("--processors", str(pods), workers=workers) as installation:
        files = Files(installation, WORK)
        most = pods * workers / WORK
        count = int(most * seconds)
        async with asyncio.timeout(PATIENCE), installation.publisher() as publisher:
            await files.publish(publisher, pods * workers * 4)  # warm
            while (start := installation.completed()) < pods * workers * 4:
                await asyncio.sleep(POLL)
            meter = Meter(installation.usage)
            await files.publish(publisher, count)
            seen = [(0.0, 0)]
            while seen[-1][1] < count:
                await asyncio.sleep(POLL)
                seen.append((meter.seconds, installation.completed() - start))
        run = meter.stop(count)
    rate = rate_between(seen, *(share * count for share in BUSY))
    memory = (run.used["processor"].rss + run.used["workers"].rss) / pods / 2**20
    cpu = run.cpu_per_thousand("processor", "workers")
    return [pods, rate, rate / most, run.rate, cpu, memory, run.others]


def rate_between(seen: Sequence[tuple[float, int]], first: float, last: float) -> float:
    """Return the files per second between the moments when `first` and `last` files were done.

    Args:
        seen: times in seconds, with the number of files done by then.
    """
    begun, at_begin = next(each for each in seen if each[1] >= first)
    ended, at_end = next(each for each in seen if each[1] >= last)
    return (at_end - at_begin) / (ended - begun)


async def with_waiting(
    installation: Installation, work: float, waiting: int, *, workers: int, seconds: float
) -> list[Any]:
    """Return the row for a constant number of waiting files.

    Files in the workers do not count as waiting. A file is done when its outcome is in Kafka;
    `seen` counts the completed files in MongoDB. The last column is the load of other processes.
    """
    open_files = waiting + workers
    files = Files(installation, work)
    async with (
        asyncio.timeout(PATIENCE),
        installation.publisher() as publisher,
        open_log(installation.settings, (LIFECYCLE,), client_id="benchmark") as (log, places),
    ):
        accepted = installation.accepted()
        done = 0

        async def top_up() -> None:
            nonlocal accepted, done
            # Each file has two events: its start and its end.
            done = sum((await log.end_offsets(places)).values()) // 2
            lacking = open_files - (accepted - done)
            accepted += max(0, lacking)
            await files.publish(publisher, lacking)

        await top_up()
        while installation.accepted() < accepted:
            await asyncio.sleep(POLL)  # Until the projector has seen them all.
        await top_up()
        first, seen = done, installation.completed()
        meter = Meter(installation.usage)
        while meter.seconds < seconds:
            await asyncio.sleep(POLL)
            await top_up()
        run = meter.stop(done - first)
        seen = installation.completed() - seen
    cpu = run.cpu_per_thousand("processor", "workers")
    return [
        f"{work * 1000:.0f} ms",
        waiting,
        run.rate,
        seen / run.seconds,
        cpu,
        run.used["processor"].rss / 2**20,
        run.others,
    ]


async def quietest(run: Callable[[], Awaitable[list[Any]]], tries: int) -> list[Any]:
    """Return the row of the run with the lowest load of other processes, its last column."""
    rows: list[list[Any]] = []
    while len(rows) < tries and not (rows and rows[-1][-1] < QUIET):
        wait_until_quiet()
        rows.append(await run())
    return min(rows, key=lambda row: float(row[-1]))


async def measure_pods(pods: Sequence[int], *, workers: int, seconds: float, tries: int) -> None:
    """Print the report on pods."""
    rows: list[list[Any]] = []
    for count in pods:
        row = await quietest(partial(with_pods, count, workers=workers, seconds=seconds), tries)
        base = rows[0] if rows else row
        rows.append([*row, row[1] / base[1], row[3] / base[3]])
    header = [
        "pods",
        "files/s",
        "of possible",
        "files/s to the end",
        "CPU s",
        "MiB a pod",
        "others",
    ]
    report("pods", [*header, "ratio", "ratio to the end"], rows)


async def measure_waiting(
    waiting: Sequence[int], *, workers: int, seconds: float, tries: int
) -> None:
    """Print the report on waiting files."""
    rows: list[list[Any]] = []
    for work in (WORK, 0.0):
        with running_waybill(workers=workers) as installation:
            await installation.pass_through(200)  # warm
            base = 0.0
            for count in waiting:
                if not work and count < 1000:
                    continue  # So few no-op files are done between two polls.
                run = partial(
                    with_waiting, installation, work, count, workers=workers, seconds=seconds
                )
                row = await quietest(run, tries)
                base = base or row[2]
                rows.append([*row, row[2] / base])
    header = ["work", "waiting", "files/s", "seen/s", "CPU s", "pod MiB", "others", "ratio"]
    report("waiting", header, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--waiting", nargs="*", type=int, default=[10, 1000, 100_000])
    parser.add_argument("--seconds", type=float, default=15.0, help="length of a run")
    parser.add_argument(
        "--tries", type=int, default=2, help="repetitions of a run beside other work"
    )
    asked = parser.parse_args()
    bounds = {"seconds": asked.seconds, "tries": asked.tries}
    if asked.pods:
        asyncio.run(measure_pods(asked.pods, workers=2, **bounds))
    if asked.waiting:
        asyncio.run(measure_waiting(asked.waiting, workers=4, **bounds))


if __name__ == "__main__":
    main()

"""Measure the throughput of no-op files, from Kafka to `completed` in MongoDB.

Also measures the time of one file alone, from the 202 to the pushed `completed`, and the processor
time of each process for 1,000 files. The peers, in the same run and with as many worker processes,
are task queues on Redis that track no-op tasks and store their results.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from benchmarks.harness import Run, percentile, report
from benchmarks.installation import running_waybill
from benchmarks.peers.running import PEERS, missing, running_peer


class System(Protocol):
    """A measured system: Waybill or a peer."""

    name: str

    async def pass_through(self, count: int) -> Run:
        """Process so many no-op files or tasks."""

    async def one_at_a_time(self, count: int) -> list[float]:
        """Return the seconds that each took alone, from acceptance until its end was reported."""


async def measure(systems: Sequence[System], *, files: int, rounds: int, alone: int) -> None:
    """Print the reports. The systems take turns, Waybill first.

    Rates are end to end. `p50` and `p99` are of files alone, and `CPU s` is per 1,000 files.
    `ratio` is Waybill's rate divided by the system's. `others` is the number of cores that other
    processes kept busy. The client, which is this process, is in no sum.
    """
    latencies: dict[str, list[float]] = {}
    runs: dict[str, list[Run]] = {system.name: [] for system in systems}
    for system in systems:
        await system.pass_through(files)  # warm: a young Kafka compiles what it does often
        await system.one_at_a_time(20)
        latencies[system.name] = await system.one_at_a_time(alone)
    for _ in range(rounds):
        for system in systems:
            runs[system.name].append(await system.pass_through(files))
    waybill = runs[systems[0].name]
    rows: list[list[Any]] = []
    for system in systems:
        mine = runs[system.name]
        typical = _typical(mine)
        own = [name for name in typical.used if name != "client"]
        rows.append(
            [
                system.name,
                statistics.median(run.rate for run in mine),
                min(run.rate for run in mine),
                max(run.rate for run in mine),
                statistics.median(a.rate / b.rate for a, b in zip(waybill, mine, strict=True)),
                percentile(latencies[system.name], 0.5) * 1000,
                percentile(latencies[system.name], 0.99) * 1000,
                typical.cpu_per_thousand(*own),
                sum(typical.used[name].rss for name in own) / 2**20,
                statistics.mean(run.others for run in mine),
            ]
        )
    header = ["system", "files/s", "lowest", "highest", "ratio", "p50 ms", "p99 ms"]
    report("throughput", [*header, "CPU s", "MiB", "others"], rows)
    details: list[list[Any]] = []
    for system in systems:
        run = _typical(runs[system.name])
        for name, each in run.used.items():
            details.append([system.name, name, run.cpu_per_thousand(name), each.rss / 2**20])
    report("processes", ["system", "process", "CPU s", "MiB"], details)


def _typical(runs: Sequence[Run]) -> Run:
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000, help="files of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=200, help="files that pass one at a time")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes of each system, at least 2"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS), help="none: Waybill alone"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        systems: list[System] = [stack.enter_context(running_waybill(workers=asked.workers))]
        for name in asked.peers:
            if lacking := missing(name):
                sys.stderr.write(f"{name} is not measured: {lacking}\n")
                continue
            peer = running_peer(name, Path(folder) / name, workers=asked.workers)
            systems.append(stack.enter_context(peer))
        asyncio.run(measure(systems, files=asked.files, rounds=asked.rounds, alone=asked.alone))


if __name__ == "__main__":
    main()

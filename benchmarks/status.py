"""Measure status reads with 10,000 and with 1,000,000 files in MongoDB.

The floor is a handler that finds a document and returns it, served alike. A separate process
queries both in turn for random finished files. Beyond the floor, Waybill looks for a newer state
than MongoDB's and computes an entity tag.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.harness import percentile, report, serve_each, usage
from services.status.projection.projection import Status, apply
from services.status.store.store import FileStore
from shared.events.events import new_file_id
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.support.builders import completed, processing, uploaded
from waybill.local.parts import running_parts
from waybill.local.process import Child

ASKED_FOR = 20_000
"""Files to request in turn, more than a round reads."""

READY_WITHIN = 60.0
"""Seconds within which the status service must be ready on an empty log."""

BLOCK = 1000
"""Documents per bulk write."""

Served = dict[str, tuple[Child, str]]

MODULES = {"waybill": "services.status", "bare": "benchmarks.bare_status"}


async def fill(settings: Settings, count: int) -> list[str]:
    """Write so many finished files, and return the ids of some."""
    await create_topics(settings)
    store = FileStore(settings)
    await store.prepare()
    status = apply(apply(apply(None, uploaded(), 0), processing(), 1), completed(), 2)
    ids: list[str] = []
    while len(ids) < count:
        block: list[tuple[Status | None, Status]] = [
            (None, status.model_copy(update={"file_id": new_file_id()})) for _ in range(BLOCK)
        ]
        await store.save(block)
        ids += [new.file_id for _, new in block]
    store.close()
    return random.sample(ids, min(ASKED_FOR, count))


def wait_until_ready(url: str) -> None:
    """Wait until the status service is ready."""
    deadline = time.monotonic() + READY_WITHIN
    while httpx.get(f"{url}/health/ready", trust_env=False).status_code != httpx.codes.OK:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} is not ready")
        time.sleep(0.2)


def ask(url: str, ids: list[str], *, seconds: float) -> list[float]:
    """Run one round of reads in another process, and return the seconds of each."""
    command = [sys.executable, "-m", "benchmarks.polling", url, "--seconds", str(seconds)]
    done = subprocess.run(
        command,
        input="\n".join(ids),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    took: list[float] = json.loads(done.stdout)
    return took


def measure(
    served: dict[str, tuple[Child, str]], ids: list[str], *, rounds: int, seconds: float
) -> list[list[Any]]:
    """Return a row for each server: requests per second, ratio, times, processor time."""
    rates: dict[str, list[float]] = {name: [] for name in served}
    took: dict[str, list[float]] = {name: [] for name in served}
    cpu: dict[str, float] = dict.fromkeys(served, 0.0)
    for turn in range(rounds + 1):
        for name, (child, url) in served.items():
            before = usage(child.pid).cpu
            times = ask(url, ids, seconds=seconds if turn else 1.0)
            if turn == 0:
                continue  # A warm-up of the servers and of MongoDB's cache.
            rates[name].append(len(times) / seconds)
            took[name] += times
            cpu[name] += usage(child.pid).cpu - before
    floor = statistics.median(rates["bare"])
    return [
        [
            name,
            statistics.median(rates[name]),
            statistics.median(rates[name]) / floor,
            percentile(took[name], 0.5) * 1000,
            percentile(took[name], 0.99) * 1000,
            cpu[name] / len(took[name]) * 1e6,
        ]
        for name in served
    ]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    asked = parser.parse_args()
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as name, running_parts(Path(name)) as parts:
        for count in asked.files:
            os.environ |= {
                "WAYBILL_KAFKA": parts.kafka,
                "WAYBILL_MONGODB": parts.mongodb,
                "WAYBILL_DATABASE": f"status{count}",
                "WAYBILL_TOPIC_PREFIX": f"status{count}.",
            }
            ids = asyncio.run(fill(Settings(), count))
            served = serve_each(MODULES, Path(name))
            try:
                wait_until_ready(served["waybill"][1])
                measured = measure(served, ids, rounds=asked.rounds, seconds=asked.seconds)
            finally:
                for child, _ in served.values():
                    child.terminate()
                    child.finish(0)
            rows += [[count, *row] for row in measured]
    report(
        "status",
        ["files", "server", "requests/s", "ratio", "p50 ms", "p99 ms", "CPU µs a request"],
        rows,
    )


if __name__ == "__main__":
    main()

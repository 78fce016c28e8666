"""How fast are durable uploads, beside a handler that throws the file away?

Both are served alike and loaded in turn by a process of its own. A 202 of Waybill's means: blob
forced to the disk, event acknowledged by Kafka. `CPU ms` is what the server's process spent on a
file, its threads and the kernel's work for them included.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import percentile, report, serve_each, usage
from shared.messaging import create_topics
from shared.settings import Settings
from waybill.local.parts import running_parts
from waybill.local.process import Child

SIZES = {"20 kB": (20_000, 16), "100 MB": (100_000_000, 2), "1 GB": (1_000_000_000, 1)}
"""Bytes of a file and how many connections send it side by side."""


def serve_both(folder: Path) -> dict[str, tuple[Child, str]]:
    """The upload service and the bare handler, each with its address."""
    served = serve_each({"waybill": "services.upload", "bare": "benchmarks.bare"}, folder)
    return {name: (child, f"{url}/api/files/upload") for name, (child, url) in served.items()}


def load(url: str, *, size: int, connections: int, seconds: float) -> dict[str, Any]:
    """One round of uploads, by another process."""
    command = [sys.executable, "-m", "benchmarks.load", url, "--size", str(size)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=seconds + 120
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(folder: Path, *, rounds: int, seconds: float) -> list[list[Any]]:
    """The rows of the report."""
    served = serve_both(folder)
    rows: list[list[Any]] = []
    try:
        for label, (size, connections) in SIZES.items():
            rates: dict[str, list[float]] = {name: [] for name in served}
            took: dict[str, list[float]] = {name: [] for name in served}
            growth: dict[str, int] = {}
            spent: dict[str, list[float]] = {name: [] for name in served}
            for _, url in served.values():
                load(url, size=size, connections=connections, seconds=1)  # warm
            for _ in range(rounds):
                for name, (child, url) in served.items():
                    before = usage(child.pid)
                    result = load(url, size=size, connections=connections, seconds=seconds)
                    growth[name] = growth.get(name, 0) + usage(child.pid).rss - before.rss
                    used = usage(child.pid).cpu - before.cpu
                    spent[name].append(used / result["requests"] * 1000)
                    rates[name].append(result["requests"] / result["seconds"])
                    took[name] += result["took"]
            pairs = zip(rates["waybill"], rates["bare"], strict=True)
            ratio = statistics.median(mine / floor for mine, floor in pairs)
            for name in served:
                rate = statistics.median(rates[name])
                rows.append(
                    [
                        label,
                        name,
                        rate,
                        rate * size / 1e6,
                        percentile(took[name], 0.5) * 1000,
                        percentile(took[name], 0.99) * 1000,
                        statistics.median(spent[name]),
                        growth[name] / 2**20,
                        ratio if name == "waybill" else 1.0,
                    ]
                )
    finally:
        for child, _ in served.values():
            child.terminate()
            child.finish(0)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_parts(Path(name)) as parts:
        os.environ["WAYBILL_KAFKA"] = parts.kafka
        os.environ["WAYBILL_BLOBS"] = f"{name}/blobs"
        asyncio.run(create_topics(Settings()))
        rows = measure(Path(name), rounds=asked.rounds, seconds=asked.seconds)
    header = [
        "file",
        "server",
        "files/s",
        "MB/s",
        "p50 ms",
        "p99 ms",
        "CPU ms",
        "RSS growth MiB",
        "ratio",
    ]
    report("upload", header, rows)


if __name__ == "__main__":
    main()

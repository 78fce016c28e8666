"""How fast are durable uploads, beside a handler that throws the file away, and beside tusd?

All are served alike and loaded in turn by a process of its own. A 202 of Waybill's means: blob
forced to the disk, event acknowledged by Kafka. What that costs whoever promises it is told by the
bare handler that does the same (`durable`). tusd stores a resumable upload as it comes and forces
nothing to the disk; `waybill tus` is the same upload to Waybill. In the report: milliseconds of an
upload, and of processor time that the server's processes and Kafka spent on it, the kernel's work
for them included; by how much the server's peak memory grew; how many cores others kept busy.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.go import built
from benchmarks.harness import (
    Meter,
    Usage,
    percentile,
    report,
    serve_each,
    usage,
    usage_of_children,
)
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from waybill.local.parts import running_parts
from waybill.local.ports import HOST, free_port, wait_for_port
from waybill.local.process import Child

FORM, TUS = "/api/files/upload", "/api/uploads"

TUSD = Path(__file__).parent / "upload_peers" / "tusd"
BUILT = Path(".waybill/benchmarks/tusd").absolute()

LARGE = 1_000_000
"""Bytes of a file from which on what was stored is deleted after a round. Small files are left: for
minutes after many were deleted, the file system takes several times as long to make others."""

HUGE = 5_000_000_000
"""Bytes of the file that is to leave no trace in memory."""


@dataclass(frozen=True)
class Size:
    """Files of a size, and who is asked to take them."""

    label: str
    size: int
    connections: int
    """That send them side by side."""
    servers: tuple[str, ...]


SIZES = (
    Size("20 kB", 20_000, 16, ("waybill", "bare", "durable")),
    Size("100 MB", 100_000_000, 2, ("waybill", "bare", "waybill tus", "tusd")),
    Size("1 GB", 1_000_000_000, 1, ("waybill", "bare", "waybill tus", "tusd")),
)


@dataclass(frozen=True)
class Server:
    """A server under load."""

    pid: int
    url: str
    resumable: bool = False

    def usage(self) -> Usage:
        """Of it and of its children."""
        return usage(self.pid) + usage_of_children(self.pid)

    def peak(self) -> int:
        """Bytes of memory that it had at most, if the system tells."""
        status = Path(f"/proc/{self.pid}/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(found[1]) * 1024 if found else 0


@dataclass
class Rounds:
    """What came of one server's rounds."""

    rates: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    kafka: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    growth: int = 0


def serve_all(folder: Path) -> tuple[dict[str, Server], list[Child]]:
    """Every server by its name, and their processes."""
    modules = {
        "waybill": "services.upload",
        "bare": "benchmarks.bare",
        "durable": "benchmarks.bare_durable",
    }
    served = serve_each(modules, folder)
    children = [child for child, _ in served.values()]
    servers = {name: Server(child.pid, url + FORM) for name, (child, url) in served.items()}
    child, url = served["waybill"]
    servers["waybill tus"] = Server(child.pid, url + TUS, resumable=True)
    if built(TUSD, BUILT):
        tusd, servers["tusd"] = _serve_tusd(folder)
        children.append(tusd)
    return servers, children


def _serve_tusd(folder: Path) -> tuple[Child, Server]:
    port = free_port()
    store = folder / "blobs" / "tusd"
    store.mkdir(parents=True)
    command = [str(BUILT), f"{HOST}:{port}", str(store)]
    child = Child("tusd", command, environment=dict(os.environ), log=folder / "tusd.log")
    wait_for_port(port, seconds=30, alive=lambda: child.alive, what="tusd")
    return child, Server(child.pid, f"http://{HOST}:{port}{TUS}", resumable=True)


def load(server: Server, *, size: int, connections: int, seconds: float) -> dict[str, Any]:
    """One round of uploads, by another process."""
    command = [sys.executable, "-m", "benchmarks.load", server.url, "--size", str(size)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    command += ["--resumable"] if server.resumable else []
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=seconds + 300
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(
    asked: Size, servers: dict[str, Server], kafka: int, blobs: Path, *, rounds: int, seconds: float
) -> dict[str, Rounds]:
    """Load all servers of a size in turn; what `blobs` holds of large files then is deleted."""
    loads = partial(load, size=asked.size, connections=asked.connections)
    found = {name: Rounds() for name in asked.servers if name in servers}
    for name in found:
        loads(servers[name], seconds=1)  # warm
    for _ in range(rounds):
        for name, each in found.items():
            server = servers[name]
            peak = server.peak()
            meter = Meter(
                lambda server=server: {  # type: ignore[misc]
                    "server": server.usage(),
                    "kafka": usage(kafka),
                    "load": usage(os.getpid()),
                }
            )
            result = loads(server, seconds=seconds)
            done = meter.stop(result["requests"])
            each.rates.append(result["requests"] / result["seconds"])
            each.took += result["took"]
            each.spent.append(done.cpu_per_thousand("server"))
            each.kafka.append(done.cpu_per_thousand("kafka"))
            each.others.append(done.others)
            each.growth += server.peak() - peak
            if asked.size >= LARGE:
                _clear(blobs)
    return found


def rows_of(asked: Size, found: dict[str, Rounds]) -> list[list[Any]]:
    """The lines of the report; a ratio is the median of those of each round."""
    rows: list[list[Any]] = []
    for name, each in found.items():
        rate = statistics.median(each.rates)
        ratios = [mine / bare for mine, bare in zip(each.rates, found["bare"].rates, strict=True)]
        rows.append(
            [
                asked.label,
                name,
                rate,
                rate * asked.size / 1e6,
                percentile(each.took, 0.5) * 1000,
                percentile(each.took, 0.99) * 1000,
                statistics.median(each.spent),
                statistics.median(each.kafka),
                each.growth / 2**20,
                statistics.median(each.others),
                statistics.median(ratios),
            ]
        )
    return rows


def measure_huge(server: Server) -> list[Any]:
    """One file of 5 GB, after all the others."""
    peak, before = server.peak(), server.usage()
    result = load(server, size=HUGE, connections=1, seconds=0.1)
    rate = HUGE / 1e6 / result["seconds"]
    spent = (server.usage().cpu - before.cpu) * 1000
    growth = (server.peak() - peak) / 2**20
    took = result["took"][0] * 1000
    return ["5 GB", "waybill", rate * 1e6 / HUGE, rate, took, took, spent, "", growth, "", ""]


def _clear(blobs: Path) -> None:
    for file in blobs.rglob("*"):
        if file.is_file():
            file.unlink()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    labels = [size.label for size in SIZES] + ["5 GB"]
    parser.add_argument("--sizes", nargs="*", choices=labels, default=labels)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_parts(Path(name)) as parts:
        os.environ["WAYBILL_KAFKA"] = parts.kafka
        os.environ["WAYBILL_BLOBS"] = f"{name}/blobs"
        asyncio.run(create_topics(Settings()))
        servers, children = serve_all(Path(name))
        try:
            rows: list[list[Any]] = []
            for size in SIZES:
                if size.label in asked.sizes:
                    kafka, blobs = parts.children["kafka"].pid, Path(name, "blobs")
                    rounds = {"rounds": asked.rounds, "seconds": asked.seconds}
                    rows += rows_of(size, measure(size, servers, kafka, blobs, **rounds))
            if "5 GB" in asked.sizes:
                rows.append(measure_huge(servers["waybill"]))
        finally:
            for child in children:
                child.terminate()
                child.finish(0)
    header = ["file", "server", "files/s", "MB/s", "p50", "p99", "CPU", "Kafka", "MiB", "others"]
    header += ["of bare"]
    report("upload", header, rows)


if __name__ == "__main__":
    main()

"""Measure durable uploads, beside a handler that discards the file and beside tusd.

All servers are served alike and loaded in turn by a separate process. A 202 of Waybill means that
the blob is forced to the disk and Kafka has acknowledged the event. `durable` is a handler with
the same guarantee. tusd stores resumable uploads without an fsync; `waybill tus` is the same upload
to Waybill. The report has milliseconds per upload, processor time of the server and of Kafka per
upload (kernel included), growth of the server's peak memory, and cores that others kept busy.
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
"""Bytes from which a file is deleted after a round. Small files are kept: for minutes after many
deletions, the file system takes several times as long to create others."""

HUGE = 5_000_000_000
"""Bytes of the file that must not increase the memory."""


@dataclass(frozen=True)
class Size:
    """A file size, and the servers that receive such files."""

    label: str
    size: int
    connections: int
    """Connections that upload in parallel."""
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
        """Return the resources of the server and its descendants."""
        return usage(self.pid) + usage_of_children(self.pid)

    def peak(self) -> int:
        """Return the peak memory in bytes, or 0 if the system does not report it."""
        status = Path(f"/proc/{self.pid}/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(found[1]) * 1024 if found else 0


@dataclass
class Rounds:
    """Results of one server's rounds."""

    rates: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    kafka: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    growth: int = 0


def serve_all(folder: Path) -> tuple[dict[str, Server], list[Child]]:
    """Start all servers, and return them by name with their processes."""
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
    """Run one round of uploads in another process."""
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
    """Load all servers of a size in turn, and delete large files in `blobs` afterwards."""
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
    """Return the rows of the report. A ratio is the median of the ratios of all rounds."""
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
    """Return the row of one file of 5 GB, uploaded after all others."""
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
    """Run the command line."""
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

"""Fuzz a whole installation: `python -m tests.fuzz --requests 100000 --seed 19`."""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tests.fuzz.requests import connections
from tests.fuzz.run import send_all
from tests.support.stack import RunningStack
from waybill.addresses import Addresses
from waybill.client import Client

BATCH = 2000
"""Requests between two looks at the memory."""

WARM = 5
"""Batches after which the memory must be flat: caches are full and pools are there."""

GROWTH = 64 << 20
"""Bytes by which a service may grow after that, with what it knows of the files it accepted."""


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def ports_of(stack: RunningStack) -> dict[str, int]:
    """Return where each service listens."""
    urls = {
        "upload": stack.upload_url,
        "status": stack.status_url,
        "processor": stack.description["processor_urls"][0],
    }
    return {name: urlsplit(url).port or 0 for name, url in urls.items()}


def pids_of(stack: RunningStack) -> dict[str, int]:
    """Return the process of each service."""
    pids = stack.pids
    return {
        "upload": pids["upload"],
        "status": pids["status"],
        "processor": pids["processor"][0],
    }


def still_works(stack: RunningStack) -> bool:
    """Return whether a file goes its whole way."""
    with Client(Addresses(status=stack.status_url, upload=stack.upload_url)) as client:
        uploaded = client.upload_bytes("after.txt", [b"after the fuzz"], size=14)
        return bool(client.wait(uploaded["file_id"], seconds=120)["status"] == "completed")


def fuzz(stack: RunningStack, *, count: int, seed: int, tell: bool = True) -> list[str]:
    """Send so many requests; returns what was wrong."""
    faults: list[str] = []
    statuses: Counter[int] = Counter()
    before, pids = pids_of(stack), pids_of(stack)
    base: dict[str, int] = {}
    for number in range(-(-count // BATCH)):
        size = min(BATCH, count - number * BATCH)
        report = asyncio.run(send_all(ports_of(stack), connections(seed * 1000 + number, size)))
        faults += report.faults
        statuses += report.statuses
        memory = {name: resident(pid) for name, pid in pids.items()}
        base = memory if number == WARM else base
        if tell:
            for fault in report.faults:
                _tell(fault)
            megabytes = {name: size >> 20 for name, size in memory.items()}
            _tell(f"{(number + 1) * BATCH}: {megabytes} MiB, {len(faults)} faults")
    faults += [
        f"{name} grew from {size >> 20} to {resident(pids[name]) >> 20} MiB"
        for name, size in base.items()
        if resident(pids[name]) - size > GROWTH
    ]
    if pids_of(stack) != before:
        faults.append(f"a process was started again: {before}, {pids_of(stack)}")
    if not still_works(stack):
        faults.append("a file does not go its way afterwards")
    if tell:
        _tell(f"answers by status: {dict(sorted(statuses.items()))}")
    return faults


def main() -> None:
    """Start a stack, fuzz it, and exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    asked = parser.parse_args()
    _tell(f"seed {asked.seed}, {asked.requests} requests")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="waybill-fuzz-") as folder:
        stack = RunningStack.start(Path(folder))
        try:
            faults = fuzz(stack, count=asked.requests, seed=asked.seed)
        finally:
            stack.stop()
    for fault in faults[-5:]:
        _tell(fault)
    _tell(f"{len(faults)} faults in {time.monotonic() - begun:.0f} s")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

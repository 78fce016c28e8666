"""Shared tools: processor time and memory of processes, percentiles, reports."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from waybill.local.ports import HOST, free_port, wait_for_port
from waybill.local.process import Child

RESULTS = Path(".waybill/benchmarks")

PATIENCE = 300.0
"""Seconds after which a run fails."""


@dataclass(frozen=True)
class Usage:
    """Resources of a process: seconds of processor time so far, bytes of memory now."""

    cpu: float
    rss: int

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.rss + other.rss)


@dataclass(frozen=True)
class Run:
    """Files that passed through a system, and the resources that its processes used."""

    files: int
    seconds: float
    used: Mapping[str, Usage]
    """Processor time that each process used, and its memory at the end."""
    others: float
    """Cores that other processes kept busy. Beside much other work, a result is unreliable."""

    @property
    def rate(self) -> float:
        """Files per second."""
        return self.files / self.seconds

    def cpu_per_thousand(self, *names: str) -> float:
        """Return the seconds of processor time that these processes spent on 1,000 files."""
        return sum(self.used[name].cpu for name in names) / self.files * 1000


class Meter:
    """Measures a run, beginning at construction."""

    def __init__(self, look: Callable[[], Mapping[str, Usage]]) -> None:
        """Begin the measurement.

        Args:
            look: returns the resources of each process of the system and of this one.
        """
        self._look = look
        self._before = look()
        self._machine = _busy_seconds()
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning of the run."""
        return time.monotonic() - self.begun

    def stop(self, files: int) -> Run:
        """End the measurement of a run that processed so many files."""
        seconds = self.seconds
        machine = _busy_seconds() - self._machine
        used = {
            name: Usage(now.cpu - self._before[name].cpu, now.rss)
            for name, now in self._look().items()
        }
        others = (machine - sum(each.cpu for each in used.values())) / seconds
        return Run(files, seconds, used, max(0.0, others))


QUIET = 0.3
"""Cores that others may keep busy during a valid run: a seventh of two cores."""

QUIET_PATIENCE = 60.0
"""Seconds to wait at most for the machine to become quiet."""


def wait_until_quiet() -> None:
    """Wait until the machine has been nearly idle for two seconds, at most `QUIET_PATIENCE`."""
    deadline = time.monotonic() + QUIET_PATIENCE
    while time.monotonic() < deadline:
        before = _busy_seconds()
        time.sleep(2)
        if _busy_seconds() - before < 2 * QUIET:
            return


def _busy_seconds() -> float:
    """Return the busy seconds of all cores together since the machine started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def usage(pid: int) -> Usage:
    """Return the resources of one process and of its children that have ended."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        rss = process.memory_info().rss
    except psutil.NoSuchProcess:
        return Usage(0.0, 0)
    cpu = times.user + times.system + times.children_user + times.children_system
    return Usage(cpu, rss)


_seen: dict[int, dict[int, float]] = {}
"""For each measured process: seconds of processor time of its children when last seen."""


def usage_of_children(pid: int) -> Usage:
    """Return the resources of all descendants of a process.

    The time of descendants that have ended counts as it was last seen. A replaced worker is killed
    together with its parent process, so the kernel reports its time to nobody.
    """
    seen = _seen.setdefault(pid, {})
    rss = 0
    for child in psutil.Process(pid).children(recursive=True):
        now = usage(child.pid)
        seen[child.pid] = max(now.cpu, seen.get(child.pid, 0.0))
        rss += now.rss
    return Usage(sum(seen.values()), rss)


def usage_of_stack(pids: Mapping[str, Any]) -> dict[str, Usage]:
    """Return the resources of each process of a local stack, by name; `pids` as in `stack.json`."""
    found = {name: usage(pid) for name, pid in pids.items() if isinstance(pid, int)}
    for kind, measure in (("processor", usage), ("workers", usage_of_children)):
        total = Usage(0.0, 0)
        for pid in pids["processor"]:
            total += measure(pid)
        found[kind] = total
    return found


def serve_each(modules: Mapping[str, str], folder: Path) -> dict[str, tuple[Child, str]]:
    """Start a service for each module on a free port, and return each with its address.

    Raises:
        StackError: a service does not listen.
    """
    served = {}
    for name, module in modules.items():
        port = free_port()
        child = Child(
            name,
            [sys.executable, "-m", module],
            environment={**os.environ, "WAYBILL_PORT": str(port)},
            log=folder / f"{name}.log",
        )
        wait_for_port(port, seconds=30, alive=partial(_is_alive, child), what=name)
        served[name] = (child, f"http://{HOST}:{port}")
    return served


def _is_alive(child: Child) -> bool:
    return child.alive


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table, and save it as JSON with machine, time and load."""
    load = os.getloadavg()[0]
    table = Table(*header, title=name)
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console(file=sys.stdout, width=100)
    console.print(table)
    console.print(f"{os.cpu_count()} cores, load average {load:.1f} over the last minute")
    RESULTS.mkdir(parents=True, exist_ok=True)
    result = {
        "name": name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": load,
        "rows": [dict(zip(header, row, strict=True)) for row in rows],
    }
    file = RESULTS / f"{name.replace(' ', '-')}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")

"""A measured task queue: its Redis, its workers, and no-op tasks."""

import asyncio
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.harness import PATIENCE, Meter, Run, Usage, usage, usage_of_children
from waybill.local.ports import HOST, free_port, wait_for_port
from waybill.local.process import Child

PEERS = {"Celery": "celery_app", "RQ": "rq_app", "taskiq": "taskiq_app"}
"""The peers and their modules in this package."""

POLL = 0.01
"""Seconds between two polls of the queue: two cheap requests to Redis."""

GRACE = 5.0
"""Seconds that workers and Redis have to end."""


class Peer(Protocol):
    """The interface of the class `Peer` in a peer's module."""

    share: int
    """A round has 1/`share` of the tasks that Waybill gets."""

    def command(self, workers: int) -> list[str]:
        """Return a Python module and arguments that start so many worker processes."""

    async def enqueue(self, count: int) -> list[Any]:
        """Enqueue so many tasks, and return the argument of `check`."""

    async def open_tasks(self) -> int:
        """Return the number of tasks that have not ended."""

    async def check(self, tasks: Sequence[Any]) -> None:
        """Raise unless each task has a stored result."""

    async def one(self) -> float:
        """Return the seconds from the acceptance of a task until its result is known."""


class RunningPeer:
    """A peer with its processes."""

    def __init__(self, name: str, peer: Peer, redis: Child, workers: Child) -> None:
        self.name = name
        self._peer = peer
        self._redis = redis
        self._workers = workers

    def _usage(self) -> dict[str, Usage]:
        workers = self._workers.pid
        return {
            "Redis": usage(self._redis.pid),
            "workers": usage(workers) + usage_of_children(workers),
            "client": usage(os.getpid()),
        }

    async def pass_through(self, count: int) -> Run:
        """Have its share of so many tasks done: from the first enqueued to the last result."""
        count //= self._peer.share
        meter = Meter(self._usage)
        async with asyncio.timeout(PATIENCE):
            tasks = await self._peer.enqueue(count)
            while await self._peer.open_tasks():
                await asyncio.sleep(POLL)
        run = meter.stop(count)
        await self._peer.check(tasks)
        return run

    async def one_at_a_time(self, count: int) -> list[float]:
        """Return the seconds that each of so many tasks took alone."""
        return [await self._peer.one() for _ in range(count // self._peer.share)]


def missing(name: str) -> str | None:
    """Return a message that names the missing software of a peer, or None."""
    if not shutil.which("redis-server"):
        return "redis-server is missing; on Debian: apt-get install redis-server"
    if importlib.util.find_spec(name.lower()) is None:
        return f"{name} is missing; `make bench` installs it"
    return None


@contextmanager
def running_peer(name: str, folder: Path, *, workers: int) -> Iterator[RunningPeer]:
    """Run a peer during the `with` block, with a separate Redis that writes nothing to the disk."""
    folder.mkdir()
    port = free_port()
    environment = {**os.environ, "PEER_REDIS": f"redis://{HOST}:{port}/0"}
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--save", ""]
    command += ["--dir", str(folder)]
    children = [Child("redis", command, environment=environment, log=folder / "redis.log")]
    try:
        wait_for_port(port, seconds=10, alive=lambda: children[0].alive, what="Redis")
        os.environ["PEER_REDIS"] = environment["PEER_REDIS"]  # its module reads it on import
        peer: Peer = importlib.import_module(f"benchmarks.peers.{PEERS[name]}").Peer()
        command = [sys.executable, "-m", *peer.command(workers)]
        log = folder / "workers.log"
        children.append(Child("workers", command, environment=environment, log=log))
        yield RunningPeer(name, peer, *children)
    finally:
        for child in reversed(children):
            child.terminate()
        for child in reversed(children):
            child.finish(time.monotonic() + GRACE)

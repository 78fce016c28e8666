"""RQ: a process forked for each task, its state and result kept in Redis."""

import os
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis
from rq import Queue

REDIS = os.environ["PEER_REDIS"]


def no_work() -> None:
    """The task."""


class Peer:
    """A client of the workers."""

    share = 10
    """A fork takes its time: a tenth of the tasks keeps a round about as long as the others'."""

    def __init__(self) -> None:
        self._queue = Queue("benchmark", connection=Redis.from_url(REDIS))

    def command(self, workers: int) -> list[str]:
        """Starts the workers."""
        arguments = ["--url", REDIS, "--num-workers", str(workers), "--logging-level", "WARNING"]
        return ["rq.cli", "worker-pool", "benchmark", *arguments]

    async def enqueue(self, count: int) -> list[Any]:
        """Ask for so many tasks, one after another as a service does."""
        return [self._queue.enqueue(no_work) for _ in range(count)]

    async def open_tasks(self) -> int:
        """How many tasks wait or are worked on; the result is stored before one leaves."""
        return int(self._queue.count + self._queue.started_job_registry.count)

    async def check(self, tasks: Sequence[Any]) -> None:
        """See that each task has a result."""
        for task in tasks:
            result = task.latest_result(timeout=10)
            if result is None or result.type is not result.Type.SUCCESSFUL:
                raise RuntimeError(f"task {task.id} has no result")

    async def one(self) -> float:
        """Seconds from when a task was accepted until its result is told."""
        task = self._queue.enqueue(no_work)
        accepted = time.monotonic()
        await self.check([task])
        return time.monotonic() - accepted

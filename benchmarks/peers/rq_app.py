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
    """A fork is slow: with a tenth of the tasks, a round takes about as long as the others'."""

    def __init__(self) -> None:
        self._queue = Queue("benchmark", connection=Redis.from_url(REDIS))

    def command(self, workers: int) -> list[str]:
        """Return the command that starts the workers."""
        arguments = ["--url", REDIS, "--num-workers", str(workers), "--logging-level", "WARNING"]
        return ["rq.cli", "worker-pool", "benchmark", *arguments]

    async def enqueue(self, count: int) -> list[Any]:
        """Enqueue so many tasks, one after another like a service."""
        return [self._queue.enqueue(no_work) for _ in range(count)]

    async def open_tasks(self) -> int:
        """Return the number of tasks that wait or run; the result is stored before the end."""
        return int(self._queue.count + self._queue.started_job_registry.count)

    async def check(self, tasks: Sequence[Any]) -> None:
        """Raise unless each task has a stored result."""
        for task in tasks:
            result = task.latest_result(timeout=10)
            if result is None or result.type is not result.Type.SUCCESSFUL:
                raise RuntimeError(f"task {task.id} has no result")

    async def one(self) -> float:
        """Return the seconds from the acceptance of a task until its result is known."""
        task = self._queue.enqueue(no_work)
        accepted = time.monotonic()
        await self.check([task])
        return time.monotonic() - accepted

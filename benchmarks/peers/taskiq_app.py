"""taskiq on a stream of Redis: acknowledged when the result is stored, no state before that.

Each process runs a hundred tasks side by side in one event loop, the default.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

REDIS = os.environ["PEER_REDIS"]
QUEUE = "taskiq"

TOGETHER = 100
"""Tasks enqueued in parallel. More are not faster and open more connections."""

CHECK_INTERVAL = 0.001
"""Seconds between two polls for a result. taskiq's client polls every 200 ms by default."""

broker = RedisStreamBroker(REDIS, queue_name=QUEUE).with_result_backend(
    RedisAsyncResultBackend(REDIS)
)


async def _no_work() -> None:
    pass


no_work = broker.task(task_name="no_work")(_no_work)


class Peer:
    """A client of the workers."""

    share = 1

    def __init__(self) -> None:
        self._redis = Redis.from_url(REDIS)
        self._started = False

    def command(self, workers: int) -> list[str]:
        """Return the command that starts the workers."""
        arguments = ["--workers", str(workers), "--log-level", "WARNING"]
        return ["taskiq", "worker", f"{__name__}:broker", *arguments, "--ack-type", "when_saved"]

    async def enqueue(self, count: int) -> list[Any]:
        """Enqueue so many tasks."""
        if not self._started:
            await broker.startup()
            self._started = True
        tasks: list[Any] = []
        while len(tasks) < count:
            some = min(TOGETHER, count - len(tasks))
            tasks += await asyncio.gather(*(no_work.kiq() for _ in range(some)))
        return tasks

    async def open_tasks(self) -> int:
        """Return the number of tasks not delivered or acknowledged; results are stored before."""
        (group,) = await self._redis.xinfo_groups(QUEUE)
        return int(group["lag"] + group["pending"])

    async def check(self, tasks: Sequence[Any]) -> None:
        """Raise unless each task has a stored result."""
        for task in tasks:
            result = await task.wait_result(check_interval=CHECK_INTERVAL, timeout=10)
            result.raise_for_error()

    async def one(self) -> float:
        """Return the seconds from the acceptance of a task until its result is known."""
        tasks = await self.enqueue(1)
        accepted = time.monotonic()
        await self.check(tasks)
        return time.monotonic() - accepted

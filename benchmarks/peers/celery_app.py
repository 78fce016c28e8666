"""Celery on Redis: late acknowledgement, tracked state, stored results, nothing fetched ahead."""

import os
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery

REDIS = os.environ["PEER_REDIS"]

app = Celery("benchmark", broker=REDIS, backend=REDIS)
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
)


def _no_work() -> None:
    pass


no_work = app.task(_no_work, name="no_work")


class Peer:
    """A client of the workers."""

    share = 1

    def command(self, workers: int) -> list[str]:
        """Return the command that starts the workers."""
        arguments = ["--app", __name__, "worker", "--loglevel", "WARNING"]
        return ["celery", *arguments, "--concurrency", str(workers)]

    async def enqueue(self, count: int) -> list[Any]:
        """Enqueue so many tasks, one after another like a service."""
        return [no_work.delay() for _ in range(count)]

    async def open_tasks(self) -> int:
        """Return the number of waiting or unacknowledged tasks; results are stored before."""
        redis = app.backend.client
        return int(redis.llen("celery") + redis.hlen("unacked"))

    async def check(self, tasks: Sequence[Any]) -> None:
        """Raise unless each task has a stored result."""
        for task in tasks:
            task.get(timeout=10)

    async def one(self) -> float:
        """Return the seconds from the acceptance of a task until its result is known."""
        task = no_work.delay()
        accepted = time.monotonic()
        task.get(timeout=30)
        return time.monotonic() - accepted

"""When to commit: as soon as something changed, one commit at a time, many changes in one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.background.supervision import RunningLoop
from shared.errors import KafkaUnavailableError
from shared.kafka.connection import KAFKA_RETRY_DELAY

PAUSE = 0.005
"""Seconds between two commits: what changes meanwhile is told in one go."""

CROWD, CROWD_PAUSE = 10, 0.01
"""Changes in one commit from which on it pays to wait longer for the next ones, and how long."""

IDLE = 1.0
"""Seconds between two signs of life while there is nothing to commit, or nothing to commit to."""

log = logging.getLogger(__name__)

COMMIT_ERRORS = (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    KafkaUnavailableError,
    OSError,
)
"""A rebalance, or Kafka is away: what is still ours then is committed then."""


class Committer:
    """Writes the ledgers of partitions that changed; what changes meanwhile goes into the next."""

    def __init__(
        self,
        commit: Callable[[Collection[TopicPartition]], Awaitable[None]],
        *,
        settled: asyncio.Event,
    ) -> None:
        """Args:
        commit: writes the ledgers of these partitions, or raises one of `COMMIT_ERRORS`.
        settled: cleared during a rebalance, when there is nothing to commit to.
        """
        self._commit = commit
        self._settled = settled
        self._changed: set[TopicPartition] = set()
        self._changes = 0
        """Since the last commit."""
        self._wanted = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._is_closed = False

    def close(self) -> None:
        """Begin no commit any more."""
        self._is_closed = True

    def changed(self, *partitions: TopicPartition) -> None:
        """The windows of these partitions are not as Kafka has them."""
        self._changed.update(partitions)
        self._changes += 1
        self._wanted.set()

    async def written(self, partitions: Collection[TopicPartition]) -> None:
        """Return once Kafka knows these windows as they are now."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.changed(*partitions)
        await waiter

    async def run(self, loop: RunningLoop) -> None:
        """Commit until cancelled; another run goes on where this one fails."""
        while True:
            if self._is_closed:
                loop.succeeded()
                await asyncio.sleep(IDLE)
                continue
            if not self._wanted.is_set():
                loop.succeeded()  # There is nothing to commit.
                await set_within(self._wanted, IDLE)
                continue
            if not self._settled.is_set():
                loop.alive()
                await set_within(self._settled, IDLE)
                continue
            self._wanted.clear()
            partitions, self._changed = self._changed, set()
            changes, self._changes = self._changes, 0
            waiters, self._waiters = self._waiters, []
            try:
                await self._commit(partitions)
            except BaseException as error:
                self._waiters = waiters + self._waiters
                self.changed(*partitions)
                if not isinstance(error, COMMIT_ERRORS):
                    raise
                log.info("commit put off: %r", error)
                loop.alive()
                await asyncio.sleep(KAFKA_RETRY_DELAY)
                continue
            loop.succeeded()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            await asyncio.sleep(CROWD_PAUSE if changes >= CROWD else PAUSE)


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, and after so many seconds in any case."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

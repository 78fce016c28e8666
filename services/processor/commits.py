"""Decide when to commit: soon after a change, one commit at a time, many changes in one commit."""

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
"""Seconds between two commits. Changes in between are batched."""

BUSY, BUSY_PAUSE = 10, 0.01
"""Changes per commit above which commits are spaced further apart, and that interval in seconds."""

IDLE = 1.0
"""Seconds between two heartbeats to the supervisor while there is nothing to commit."""

log = logging.getLogger(__name__)

COMMIT_ERRORS = (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    KafkaUnavailableError,
    OSError,
)
"""Errors of a rebalance or an unreachable Kafka. Partitions still held are committed later."""


class Committer:
    """Commits the ledgers of changed partitions; changes during a commit go into the next one."""

    def __init__(
        self,
        commit: Callable[[Collection[TopicPartition]], Awaitable[None]],
        *,
        settled: asyncio.Event,
    ) -> None:
        """Create a committer.

        Args:
            commit: commits the ledgers of these partitions, or raises one of `COMMIT_ERRORS`.
            settled: cleared during a rebalance, when commits are impossible.
        """
        self._commit = commit
        self._settled = settled
        self._changed: set[TopicPartition] = set()
        self._changes = 0
        """Number of changes since the last commit."""
        self._wanted = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._is_closed = False

    def close(self) -> None:
        """Start no further commits."""
        self._is_closed = True

    def changed(self, *partitions: TopicPartition) -> None:
        """Note that the windows of these partitions differ from what is committed."""
        self._changed.update(partitions)
        self._changes += 1
        self._wanted.set()

    async def written(self, partitions: Collection[TopicPartition]) -> None:
        """Return once the current windows of these partitions are committed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.changed(*partitions)
        await waiter

    async def run(self, loop: RunningLoop) -> None:
        """Commit until cancelled. A new run resumes where this one failed."""
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
                log.info("commit postponed: %r", error)
                loop.alive()
                await asyncio.sleep(KAFKA_RETRY_DELAY)
                continue
            loop.succeeded()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            await asyncio.sleep(BUSY_PAUSE if changes >= BUSY else PAUSE)


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after `seconds` at the latest."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

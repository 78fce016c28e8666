"""Folds the log into a collection, on several cores. An interrupted rebuild resumes."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from services.status.projector import Projector
from services.status.replay.checkpoints import Checkpoints
from services.status.replay.forked_pool import ForkedPool
from services.status.replay.offset_ranges import OffsetRange, read, whole_log
from services.status.settings import StatusSettings
from services.status.store.store import FileStore

UPDATE_INTERVAL = 0.5
"""Seconds between two progress updates."""


@dataclass(frozen=True)
class Advance:
    """The progress of a rebuild, in records."""

    done: int
    total: int
    resumed: int
    """Records that an earlier, interrupted rebuild had folded."""


OnAdvance = Callable[[Advance], None]


async def rebuild(
    settings: StatusSettings,
    collection: str,
    *,
    until: datetime | None = None,
    pool: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> list[OffsetRange]:
    """Fold the log into a collection, which contains nothing else and has no indexes.

    The end of the log is fixed when the rebuild starts. An interrupted rebuild resumes.

    Args:
        until: exclude events at or after this time.
        pool: worker processes that share the work.
        restart: start over even if a rebuild was interrupted.

    Returns:
        The offset ranges that were folded.

    Raises:
        UnavailableError: MongoDB is unavailable.
        KafkaError: Kafka is unavailable.
    """
    store = FileStore(settings, collection=collection)
    checkpoints = Checkpoints(store)
    try:
        whole = [] if restart else await checkpoints.whole()
        if whole:
            rest = await checkpoints.rest()
        else:
            rest = whole = await whole_log(settings, until=until)
            # Drop the checkpoints first, or the next rebuild would resume into a dropped
            # collection.
            await checkpoints.drop()
            await store.drop()
            await checkpoints.begin(whole)
        reporter = _ProgressReporter(checkpoints, whole, rest, on_advance)
        await _fold_all(settings, store, rest, pool, reporter)
        return whole
    finally:
        store.close()


class _ProgressReporter:
    """Reports the progress of all processes."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        whole: Collection[OffsetRange],
        rest: Collection[OffsetRange],
        on_advance: OnAdvance,
    ) -> None:
        self._checkpoints = checkpoints
        self._total = _records(whole)
        self._resumed = self._total - _records(rest)
        self._on_advance = on_advance

    async def update(self) -> None:
        self.report(await self._checkpoints.rest())

    def report(self, rest: Collection[OffsetRange]) -> None:
        self._on_advance(Advance(self._total - _records(rest), self._total, self._resumed))


async def _fold_all(
    settings: StatusSettings,
    store: FileStore,
    rest: list[OffsetRange],
    pool: ForkedPool | None,
    reporter: _ProgressReporter,
) -> None:
    reporter.report(rest)
    shares = _shares(rest, 1 + (pool.count if pool else 0))
    if not shares:
        return
    mine, *others = shares
    loop = asyncio.get_running_loop()
    remote = [
        loop.run_in_executor(pool.executor, _fold_in_process, settings, store.name, share)
        for share in others
        if pool
    ]
    local = asyncio.create_task(_fold(settings, store, mine))
    pending: set[asyncio.Future[None]] = {local, *remote}
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=UPDATE_INTERVAL)
            for each in done:
                each.result()
            await reporter.update()
    finally:
        local.cancel()
        await asyncio.wait([local])


def _records(offset_ranges: Collection[OffsetRange]) -> int:
    return sum(map(len, offset_ranges))


def _shares(offset_ranges: Collection[OffsetRange], count: int) -> list[list[OffsetRange]]:
    """Split offset ranges into at most `count` parts.

    Ranges of one partition number stay together.
    """
    numbers = sorted({each.number for each in offset_ranges if each})
    mine = [set(numbers[share::count]) for share in range(min(count, len(numbers)))]
    return [[each for each in offset_ranges if each.number in some] for some in mine]


def _fold_in_process(
    settings: StatusSettings, collection: str, offset_ranges: list[OffsetRange]
) -> None:
    """Fold in a process of its own."""

    async def fold() -> None:
        store = FileStore(settings, collection=collection)
        try:
            await _fold(settings, store, offset_ranges)
        finally:
            store.close()

    asyncio.run(fold())


async def _fold(
    settings: StatusSettings, store: FileStore, offset_ranges: list[OffsetRange]
) -> None:
    """Fold in this process, while the next records are fetched from Kafka."""
    checkpoints = Checkpoints(store)
    projector = Projector(store)
    async for block in read(settings, offset_ranges):
        await projector.project(block.records)
        await checkpoints.passed(block.number, block.rest)

"""Folds the log into a collection, on several cores; goes on where it stopped if it is killed."""

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

LOOK_EVERY = 0.5
"""Seconds between two looks at how far the processes have come."""


@dataclass(frozen=True)
class Advance:
    """How far a rebuild has come, in records."""

    done: int
    total: int
    resumed: int
    """How many of them an earlier rebuild had done, which was stopped."""


OnAdvance = Callable[[Advance], None]


async def rebuild(
    settings: StatusSettings,
    collection: str,
    *,
    until: datetime | None = None,
    beside: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> list[OffsetRange]:
    """Fold the log into a collection, which holds nothing else and has no indexes.

    The end of the log is that of the moment when the rebuild began. One that was stopped goes on.

    Args:
        until: leave out what came at this time or later.
        beside: who folds as well.
        restart: begin anew even if another one was stopped.

    Returns:
        What has been folded.

    Raises:
        UnavailableError: MongoDB does not answer.
        KafkaError: Kafka does not.
    """
    store = FileStore(settings, collection=collection)
    checkpoints = Checkpoints(store)
    try:
        whole = [] if restart else await checkpoints.whole()
        if whole:
            rest = await checkpoints.rest()
        else:
            rest = whole = await whole_log(settings, until=until)
            # They go first, or another rebuild would go on in a collection that is gone.
            await checkpoints.drop()
            await store.drop()
            await checkpoints.begin(whole)
        watch = _Watch(checkpoints, whole, rest, on_advance)
        await _fold_all(settings, store, rest, beside, watch)
        return whole
    finally:
        store.close()


class _Watch:
    """Tells how far the processes have come."""

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

    async def sample(self) -> None:
        self.tell(await self._checkpoints.rest())

    def tell(self, rest: Collection[OffsetRange]) -> None:
        self._on_advance(Advance(self._total - _records(rest), self._total, self._resumed))


async def _fold_all(
    settings: StatusSettings,
    store: FileStore,
    rest: list[OffsetRange],
    beside: ForkedPool | None,
    watch: _Watch,
) -> None:
    watch.tell(rest)
    shares = _shares(rest, 1 + (beside.count if beside else 0))
    if not shares:
        return
    mine, *others = shares
    loop = asyncio.get_running_loop()
    there = [
        loop.run_in_executor(beside.pool, _fold_there, settings, store.name, share)
        for share in others
        if beside
    ]
    here = asyncio.create_task(_fold(settings, store, mine))
    pending: set[asyncio.Future[None]] = {here, *there}
    try:
        while pending:
            done, pending = await asyncio.wait(pending, timeout=LOOK_EVERY)
            for each in done:
                each.result()
            await watch.sample()
    finally:
        here.cancel()
        await asyncio.wait([here])


def _records(offset_ranges: Collection[OffsetRange]) -> int:
    return sum(map(len, offset_ranges))


def _shares(offset_ranges: Collection[OffsetRange], count: int) -> list[list[OffsetRange]]:
    """Stretches in at most so many parts; those of one number stay together."""
    numbers = sorted({each.number for each in offset_ranges if each})
    mine = [set(numbers[share::count]) for share in range(min(count, len(numbers)))]
    return [[each for each in offset_ranges if each.number in some] for some in mine]


def _fold_there(
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
    """Fold in this process; what is next comes from Kafka meanwhile."""
    checkpoints = Checkpoints(store)
    projector = Projector(store)
    async for block in read(settings, offset_ranges):
        await projector.project(block.records)
        await checkpoints.passed(block.number, block.rest)

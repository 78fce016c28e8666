"""Folds the log into a collection, on several cores; goes on where it stopped if it is killed."""

import asyncio
import multiprocessing
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from services.status.checkpoints import Checkpoints
from services.status.projector import Projector
from services.status.settings import StatusSettings
from services.status.store import FileStore
from services.status.stretches import Stretch, read, whole_log
from shared.serving import collect_seldom
from shared.telemetry import configure_logging

WORTH_A_PROCESS = 200_000
"""Records that take four seconds to fold, more than three times what a process needs to start."""

SIDE_BY_SIDE = 2
"""Shares that are folded side by side in a process: more would bring memory, and little time."""

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
    jobs: int = 1,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> list[Stretch]:
    """Fold the log into a collection, which holds nothing else and has no indexes.

    The end of the log is that of the moment when the rebuild began. One that was stopped goes on.

    Args:
        until: leave out what came at this time or later.
        jobs: processes that fold side by side, this one among them, as far as there is enough to
            fold.
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
        if not whole:
            whole = await whole_log(settings, until=until)
            await store.drop()
            await checkpoints.begin(whole)
        rest = await checkpoints.rest()
        await _fold_all(settings, collection, rest, jobs, _Watch(checkpoints, whole, on_advance))
        return whole
    finally:
        store.close()


class _Watch:
    """Tells how far the processes have come."""

    def __init__(
        self, checkpoints: Checkpoints, whole: Collection[Stretch], on_advance: OnAdvance
    ) -> None:
        self._checkpoints = checkpoints
        self._total = sum(map(len, whole))
        self._on_advance = on_advance
        self._resumed: int | None = None

    async def look(self) -> None:
        done = self._total - sum(map(len, await self._checkpoints.rest()))
        if self._resumed is None:
            self._resumed = done
        self._on_advance(Advance(done, self._total, self._resumed))


async def _fold_all(
    settings: StatusSettings, collection: str, rest: list[Stretch], jobs: int, watch: _Watch
) -> None:
    await watch.look()
    shares = _shares(rest, min(jobs, 1 + sum(map(len, rest)) // WORTH_A_PROCESS))
    if not shares:
        return
    mine, *others = shares
    with ExitStack() as processes:
        here = asyncio.create_task(_fold(settings, collection, mine))
        there = _fold_elsewhere(settings, collection, others, processes) if others else []
        pending: set[asyncio.Future[None]] = {here, *there}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=LOOK_EVERY)
                for each in done:
                    each.result()
                await watch.look()
        finally:
            here.cancel()
            await asyncio.wait([here])


def _fold_elsewhere(
    settings: StatusSettings, collection: str, shares: list[list[Stretch]], processes: ExitStack
) -> list[asyncio.Future[None]]:
    """Fold each share in a process of its own, which ends with `processes`."""
    context = multiprocessing.get_context("forkserver")
    # What takes long to import is imported once, and its memory is shared.
    context.set_forkserver_preload([__name__])
    pool = processes.enter_context(ProcessPoolExecutor(len(shares), mp_context=context))
    loop = asyncio.get_running_loop()
    return [
        loop.run_in_executor(pool, _fold_there, settings, collection, share) for share in shares
    ]


def _shares(stretches: Collection[Stretch], count: int) -> list[list[Stretch]]:
    """Stretches in at most so many parts; those of one number stay together."""
    numbers = sorted({each.number for each in stretches if each})
    mine = [set(numbers[share::count]) for share in range(min(count, len(numbers)))]
    return [[each for each in stretches if each.number in some] for some in mine]


def _fold_there(settings: StatusSettings, collection: str, stretches: list[Stretch]) -> None:
    """Fold in a process of its own."""
    configure_logging(settings)
    collect_seldom()
    asyncio.run(_fold(settings, collection, stretches))


async def _fold(settings: StatusSettings, collection: str, stretches: list[Stretch]) -> None:
    """Fold in this process: one share computes while the other waits for MongoDB."""
    shares = _shares(stretches, SIDE_BY_SIDE)
    folding = [asyncio.create_task(_fold_share(settings, collection, each)) for each in shares]
    try:
        await asyncio.gather(*folding)
    finally:
        for each in folding:
            each.cancel()
        await asyncio.wait(folding)


async def _fold_share(settings: StatusSettings, collection: str, share: list[Stretch]) -> None:
    store = FileStore(settings, collection=collection)
    checkpoints = Checkpoints(store)
    projector = Projector(store)
    try:
        async for block in read(settings, share):
            await projector.project(block.records)
            await checkpoints.passed(block.number, block.rest)
    finally:
        store.close()

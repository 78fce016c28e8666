"""Finds and repairs differences between the live collection and a fresh fold of the log.

Both collections are read in the order of their ids. The projector and the fold are briefly at
different offsets of the log, so files that differ are compared again. A file that differs twice in
the same way has drifted.

A file is repaired in place, by compare-and-set. Its live document is read first, then the log is
folded to its end, then the folded document is read. The fold thus includes everything the live
document did. Concurrent readers never see a file missing or an older state. If the projector was
faster, its document stays and is compared again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field

from services.status.projection.projection import Status
from services.status.store.store import FileStore

CHUNK = 10_000
"""Differing files that are compared again together. Their ids and fields take about 2 MB."""

SETTLING_DELAY = 1.0
"""Seconds before files that differ are compared again."""

BATCH_SIZE = 1_000
"""Files that are read and repaired together."""

MAX_REPORTED = 20
"""Differing files that the report lists individually."""

MISSING, UNEXPLAINED = "missing from the live collection", "live, but not in the log"

CatchUp = Callable[[], Awaitable[None]]
"""Folds the log to its current end."""

Difference = str
"""A description of how a file differs."""


def differing_fields(one: Status, other: Status) -> list[str]:
    """Return the names of the fields in which two statuses differ."""
    return sorted(
        name for name in Status.model_fields if getattr(one, name) != getattr(other, name)
    )


@dataclass
class Drift:
    """The differences between the live collection and a fresh fold of the log."""

    compared: int = 0
    files: int = 0
    """Number of files that differ."""
    named: dict[str, Difference] = field(default_factory=dict)
    """The first of them."""

    def add(self, found: dict[str, Difference]) -> None:
        """Add differing files."""
        self.files += len(found)
        for file_id in sorted(found)[: MAX_REPORTED - len(self.named)]:
            self.named[file_id] = found[file_id]

    def lines(self) -> list[str]:
        """Return the report, line by line."""
        if not self.files:
            return [f"{self.compared} files compared: equal, field by field"]
        more = self.files - len(self.named)
        return [
            f"{self.compared} files compared: {self.files} differ",
            *(f"  {file_id}: {how}" for file_id, how in self.named.items()),
            *([f"  … and {more} more"] if more > 0 else []),
        ]


async def find_drift(
    live: FileStore, rebuilt: FileStore, catch_up: CatchUp, *, repair: bool = False
) -> Drift:
    """Compare two collections, file by file and field by field.

    Args:
        catch_up: folds the log into `rebuilt` to its current end.
        repair: True to replace drifted documents; otherwise the live collection is not changed.
    """
    drift = Drift()
    chunk: dict[str, Difference] = {}

    async def settle() -> None:
        drifted = await _settled(chunk, live, rebuilt, catch_up)
        drift.add(drifted)
        if repair:
            await _repair(drifted, live, rebuilt, catch_up)
        chunk.clear()

    async for left, right in _side_by_side(live, rebuilt):
        drift.compared += 1
        if how := _difference(left, right):
            chunk[(left or right).file_id] = how  # type: ignore[union-attr] # at least one exists
            if len(chunk) >= CHUNK:
                await settle()
    await settle()
    return drift


async def _side_by_side(
    live: FileStore, rebuilt: FileStore
) -> AsyncIterator[tuple[Status | None, Status | None]]:
    """Yield the two documents of each file that is in either collection."""
    ours, theirs = live.scan(), rebuilt.scan()
    left, right = await anext(ours, None), await anext(theirs, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.file_id < right.file_id):
            yield left, None
            left = await anext(ours, None)
        elif left is None or right.file_id < left.file_id:
            yield None, right
            right = await anext(theirs, None)
        else:
            yield left, right
            left, right = await anext(ours, None), await anext(theirs, None)


def _difference(left: Status | None, right: Status | None) -> Difference | None:
    if left == right:
        return None
    if left is None:
        return MISSING
    if right is None:
        return UNEXPLAINED
    return f"differs in {', '.join(differing_fields(left, right))}"


async def _settled(
    differences: dict[str, Difference], live: FileStore, rebuilt: FileStore, catch_up: CatchUp
) -> dict[str, Difference]:
    """Return the files that still differ in the same way."""
    drifted: dict[str, Difference] = {}
    while differences:
        await asyncio.sleep(SETTLING_DELAY)
        await catch_up()
        again: dict[str, Difference] = {}
        for some in _portions(differences):
            left, right = await live.get_many(some), await rebuilt.get_many(some)
            for file_id in some:
                how = _difference(left.get(file_id), right.get(file_id))
                if how == differences[file_id]:
                    drifted[file_id] = how
                elif how is not None:
                    again[file_id] = how
        differences = again
    return drifted


async def _repair(
    drifted: Collection[str], live: FileStore, rebuilt: FileStore, catch_up: CatchUp
) -> None:
    for some in _portions(drifted):
        conflicts: Collection[str] = some
        while conflicts:
            await live.remove_unreadable(conflicts)
            left = await live.get_many(conflicts)
            await catch_up()
            right = await rebuilt.get_many(conflicts)
            changed = await live.save(
                [
                    (left.get(file_id), status)
                    for file_id, status in right.items()
                    if left.get(file_id) != status
                ]
            )
            gone = [status for file_id, status in left.items() if file_id not in right]
            conflicts = changed | await live.remove(gone)


def _portions(ids: Collection[str]) -> list[list[str]]:
    ordered = sorted(ids)
    return [ordered[at : at + BATCH_SIZE] for at in range(0, len(ordered), BATCH_SIZE)]

"""The progress of a fold of the log into a collection, so that an interrupted fold can resume."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from services.status.replay.offset_ranges import OffsetRange
from services.status.store.store import FileStore, translated


class Checkpoints:
    """The offset ranges still to be folded into a store: one document per partition number.

    Every method raises `MongoUnavailableError` when MongoDB is unavailable.
    """

    def __init__(self, store: FileStore) -> None:
        self._numbers = store.beside("checkpoints")

    @translated
    async def begin(self, offset_ranges: Sequence[OffsetRange]) -> None:
        """Store the offset ranges to fold. No checkpoints may exist yet."""
        numbers = {each.number for each in offset_ranges}
        if numbers:
            await self._numbers.insert_many(
                [
                    {
                        "_id": number,
                        "whole": _documents(offset_ranges, number),
                        "rest": _documents(offset_ranges, number),
                    }
                    for number in sorted(numbers)
                ]
            )

    @translated
    async def passed(self, number: int, rest: Sequence[OffsetRange]) -> None:
        """Store the remaining offset ranges of one partition number."""
        change = {"$set": {"rest": _documents(rest, number)}}
        await self._numbers.update_one({"_id": number}, change)

    @translated
    async def whole(self) -> list[OffsetRange]:
        """Return all offset ranges of the fold; empty if no fold has started."""
        return await self._all("whole")

    @translated
    async def rest(self) -> list[OffsetRange]:
        """Return the offset ranges still to be folded."""
        return await self._all("rest")

    @translated
    async def drop(self) -> None:
        """Delete the checkpoints."""
        await self._numbers.drop()

    async def _all(self, field: str) -> list[OffsetRange]:
        return [
            OffsetRange(**each)
            async for document in self._numbers.find()
            for each in document[field]
        ]


def _documents(offset_ranges: Collection[OffsetRange], number: int) -> list[dict[str, Any]]:
    return [asdict(each) for each in offset_ranges if each.number == number]

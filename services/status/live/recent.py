"""What this pod has told lately, for subscribers that come back and want what they missed."""

from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from services.status.live.cursor import StreamCursor
from services.status.live.cursor_seal import CursorSeal
from services.status.live.update import Update

MAX_RECENT = 20_000
"""Lifecycle states that are kept, some 40 MB: at 500 a second the last 40 seconds, in which a
client finds the next pod. Whoever was away for longer begins anew."""

MAX_AHEAD = 10_000
"""Events of one partition by which a cursor may be ahead of this pod. Beyond that it is not another
pod that was faster, but another log: its topics were made anew."""


@dataclass(frozen=True)
class RecentBatch:
    """States that were told together, and how far in the log that went."""

    updates: Sequence[Update]
    cursor: StreamCursor
    seal: CursorSeal

    @cached_property
    def text(self) -> str:
        """The cursor as clients get it."""
        return self.seal.seal(self.cursor)


class Recent:
    """The latest lifecycle states that were told, in order."""

    def __init__(self, begin: StreamCursor, seal: CursorSeal | None = None) -> None:
        """Args:
        begin: where the tail begins: what follows is told.
        seal: seals the cursors that clients get.
        """
        self._seal = seal or CursorSeal()
        self._batches = deque([RecentBatch((), begin, self._seal)])
        """The first only says where what is kept begins."""
        self._count = 0

    @property
    def last(self) -> RecentBatch:
        """What was told last."""
        return self._batches[-1]

    def add(self, updates: Sequence[Update], cursor: StreamCursor) -> None:
        """Note what was told, and forget what was told long ago."""
        if not updates and cursor == self.last.cursor:
            return
        if not updates and not self.last.updates and len(self._batches) > 1:
            self._batches.pop()
        self._batches.append(RecentBatch(updates, cursor, self._seal))
        self._count += len(updates)
        while self._count > MAX_RECENT:
            self._batches.popleft()
            begin = self._batches[0]
            self._count -= len(begin.updates)
            self._batches[0] = RecentBatch((), begin.cursor, self._seal)

    def remember(self, updates: Sequence[Update], cursor: StreamCursor) -> None:
        """Keep lifecycle states for those who come back; of a deleted file, the deletion alone."""
        deleted = {each.status.file_id for each in updates if each.status.deleted_at is not None}
        for file_id in deleted:
            self.forget(file_id)
        for each in updates:
            if each.reader is not None:
                self.update_audience(each)
        kept = [
            each
            for each in updates
            if each.place is not None
            and (each.status.deleted_at is not None or each.status.file_id not in deleted)
        ]
        self.add(kept, cursor)

    def update_audience(self, notice: Update) -> None:
        """Tell of a file to those who come back and may know of it now, whoever might before.

        Args:
            notice: with whom the file is shared, or no longer.
        """
        for number, batch in enumerate(self._batches):
            kept = []
            for update in batch.updates:
                if update.status.file_id == notice.status.file_id:
                    if update.reader is None:
                        update.audience = notice.status
                    elif update.reader == notice.reader:
                        continue
                kept.append(update)
            if len(kept) < len(batch.updates):
                self._count -= len(batch.updates) - len(kept)
                self._batches[number] = RecentBatch(kept, batch.cursor, self._seal)

    def forget(self, file_id: str) -> None:
        """Keep nothing of a deleted file: it carries personal data."""
        for number, batch in enumerate(self._batches):
            kept = [update for update in batch.updates if update.status.file_id != file_id]
            if len(kept) < len(batch.updates):
                self._count -= len(batch.updates) - len(kept)
                self._batches[number] = RecentBatch(kept, batch.cursor, self._seal)

    def since(self, cursor: StreamCursor) -> Iterator[RecentBatch] | None:
        """The batches that hold all that follows the cursor, and more; None if it is too old."""
        begin, end = self._batches[0].cursor, self.last.cursor
        if not _covers(cursor, begin) or any(
            offset > end.get(partition, 0) + MAX_AHEAD for partition, offset in cursor.items()
        ):
            return None
        # After a restart hundreds come back at once: none of them walks through all there is.
        batches = list(self._batches)
        return iter(
            batches[bisect(batches, False, key=lambda batch: not _covers(cursor, batch.cursor)) :]
        )


def _covers(cursor: StreamCursor, other: StreamCursor) -> bool:
    """Whether everything before the other cursor was told before this one."""
    return all(cursor.get(partition, 0) >= offset for partition, offset in other.items())

"""The latest published states, for clients that reconnect with a cursor."""

from bisect import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from services.status.live.cursor import StreamCursor
from services.status.live.cursor_seal import CursorSeal
from services.status.live.update import Update

MAX_RECENT = 20_000
"""Lifecycle states kept, about 40 MB: the last 40 seconds at 500 states a second. A client finds
another pod within that time; otherwise its stream begins with a reset."""

MAX_AHEAD = 10_000
"""Events of one partition by which a cursor may be ahead of this pod. A cursor further ahead does
not come from a faster pod but from another log, whose topics were recreated."""


@dataclass(frozen=True)
class RecentBatch:
    """States that were published together, and the cursor after them."""

    updates: Sequence[Update]
    cursor: StreamCursor
    seal: CursorSeal

    @cached_property
    def text(self) -> str:
        """The sealed cursor that clients receive."""
        return self.seal.seal(self.cursor)


class Recent:
    """The latest published lifecycle states, in order."""

    def __init__(self, begin: StreamCursor, seal: CursorSeal | None = None) -> None:
        """Create an empty log of recent states.

        Args:
            begin: the cursor at which the tail begins.
            seal: seals the cursors that clients receive.
        """
        self._seal = seal or CursorSeal()
        self._batches = deque([RecentBatch((), begin, self._seal)])
        """The first batch is empty: its cursor marks where the kept states begin."""
        self._count = 0

    @property
    def last(self) -> RecentBatch:
        """The latest batch."""
        return self._batches[-1]

    def add(self, updates: Sequence[Update], cursor: StreamCursor) -> None:
        """Append a batch and drop the oldest ones above the limit."""
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
        """Keep lifecycle states for clients that reconnect; of a deleted file only the deletion."""
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
        """Apply a sharing notice to the kept states of its file.

        Clients that reconnect then receive these states only if they may read the file now.

        Args:
            notice: the change of a reader's access.
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
        """Drop all states of a deleted file, because they contain personal data."""
        for number, batch in enumerate(self._batches):
            kept = [update for update in batch.updates if update.status.file_id != file_id]
            if len(kept) < len(batch.updates):
                self._count -= len(batch.updates) - len(kept)
                self._batches[number] = RecentBatch(kept, batch.cursor, self._seal)

    def since(self, cursor: StreamCursor) -> Iterator[RecentBatch] | None:
        """Return the batches that follow the cursor, or None if it is too old.

        The first batch may also contain states from before the cursor.
        """
        begin, end = self._batches[0].cursor, self.last.cursor
        if not _covers(cursor, begin) or any(
            offset > end.get(partition, 0) + MAX_AHEAD for partition, offset in cursor.items()
        ):
            return None
        # After a restart hundreds of clients reconnect at once, so search by bisection.
        batches = list(self._batches)
        return iter(
            batches[bisect(batches, False, key=lambda batch: not _covers(cursor, batch.cursor)) :]
        )


def _covers(cursor: StreamCursor, other: StreamCursor) -> bool:
    """Return True if a cursor is at or after the other one on every partition."""
    return all(cursor.get(partition, 0) >= offset for partition, offset in other.items())

"""The overlay: the states of files in progress, folded from the log's tail.

The overlay starts from MongoDB's documents, which may be ahead of the tail or behind it. Every
pod's overlay goes through the same states of a file in the same order, see `sequence.py`.

While MongoDB is unavailable, the overlay continues with the files that it holds and with those
whose upload it reads: the tail contains all their events. Events of other files are set aside until
their documents can be read. Otherwise a subscriber might receive a wrong state, or the state of a
file that it may not see.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from services.status.live.cursor import TOPICS, Partition, Place, StreamCursor
from services.status.live.notices import notice
from services.status.live.update import Update, adds_to
from services.status.projection import shares
from services.status.projection.projection import Status, apply
from services.status.projection.sequence import is_due, rewind
from shared.events.events import (
    AccessEvent,
    FileProgressed,
    FileUploaded,
    StatusEvent,
    first_file_id,
    utc_now,
)

MAX_HELD = 50_000
"""States held in memory, ~3 kB each. The least recently changed are dropped first; the projector
stored them long before."""

LEAST = "\x00"
"""Appended to an id, this gives the smallest text that is greater than the id."""

MAX_CAUSE_WAIT = 1.0
"""Seconds that an event waits for its cause. Between two topics this takes milliseconds. A cause
that does not arrive by then was unreadable, or its record was compacted away."""


class Observed(NamedTuple):
    """An event of the tail and its position."""

    event: StatusEvent
    partition: Partition | None
    """The partition as cursors count it; None for progress, which may be skipped."""
    number: int
    """Number of the partition, whether cursors count it or not."""
    offset: int

    @property
    def topic(self) -> int | None:
        return None if self.partition is None else self.partition.topic

    @property
    def place(self) -> Place | None:
        return None if self.partition is None else Place(self.partition, self.offset)


@dataclass(slots=True)
class _Held:
    """The state of one held file."""

    published: Update | None
    """The last published state, or the state before the tail began."""
    ahead: Update | None = None
    """MongoDB's document while it is ahead of the published state. Requests return it, so that
    readers never see a step back."""

    @property
    def status(self) -> Status | None:
        return self.published.status if self.published else None

    @property
    def current(self) -> Update | None:
        return self.ahead or self.published


@dataclass
class _Waiting:
    """Events of a file that wait for their cause or for the file's document."""

    since: float
    events: list[Observed] = field(default_factory=list)
    is_unread: bool = False
    """True if the document could not be read from MongoDB."""

    def add(self, observed: Observed) -> None:
        """Add an event. While the document is unread, keep only the latest progress."""
        if self.is_unread and isinstance(observed.event, FileProgressed):
            self.events = [each for each in self.events if not _is_progress(each)]
        self.events.append(observed)


class Overlay:
    """The states of the files that appear in the tail."""

    def __init__(self, on_failure: Callable[[Observed, Exception], None] | None = None) -> None:
        """Create an empty overlay.

        Args:
            on_failure: called with an event that cannot be folded. The overlay then skips the
                event, as the projector dead-letters it. Without this callback the error is raised.
        """
        self._on_failure = on_failure
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}
        self._read: dict[Partition, int] = {}
        """Offset of the next event of each partition."""
        self._first_new = ""
        """Lowest id for which the tail has all events of the file."""
        self._first_whole = ""
        """Lowest id of a batch from which no file was dropped."""

    def begin(self, cursor: StreamCursor, since: datetime | None = None) -> None:
        """Set where the tail begins. Everything before that is in MongoDB.

        Args:
            cursor: the offset of the first event of each partition.
            since: the tail contains everything published from this time on.
        """
        self._read = dict(cursor)
        self._first_new = self._first_whole = first_file_id(since or utc_now())

    def get(self, file_id: str) -> Update | None:
        """Return the current state of a file, or None if it is not held."""
        held = self._held.get(file_id)
        return held.current if held is not None else None

    @property
    def ids(self) -> Collection[str]:
        """The ids of the files that are held."""
        return self._held.keys()

    def held_updates(self) -> list[Update]:
        """Return the current states of all held files."""
        return [held.current for held in self._held.values() if held.current is not None]

    def unheld(self, file_ids: Iterable[str]) -> set[str]:
        """Return those of these files that are not held."""
        # `set.difference` would iterate over all held files for each batch of events.
        return {file_id for file_id in file_ids if file_id not in self._held}

    def overdue(self, now: float, *, at_end: bool) -> list[str]:
        """Return the files whose events have waited long enough for their cause.

        Args:
            now: monotonic seconds.
            at_end: True if the log is read to its end. Before that, the cause may just not have
                been read yet.
        """
        if not at_end:
            for waiting in self._waiting.values():
                waiting.since = now
        return [
            file_id
            for file_id, waiting in self._waiting.items()
            if now - waiting.since > MAX_CAUSE_WAIT and not waiting.is_unread
        ]

    def is_new(self, file_id: str) -> bool:
        """Return True if the tail has all events of a file, or will have them once published.

        This is so if the id is newer than the start of the tail and than every file that was
        dropped.
        """
        return file_id >= self._first_new

    def has_whole(self, batch_id: str) -> bool:
        """Return True if all files of a batch are held whose uploads the tail has delivered.

        The uploads of a batch are published after the batch received its id. So all are held if the
        tail began before that and none was dropped. An upload is set aside if its own id is older
        than the tail; then the batch is not whole.
        """
        return batch_id >= self._first_whole and not any(
            isinstance(each.event, FileUploaded) and each.event.data.batch_id == batch_id
            for waiting in self._waiting.values()
            for each in waiting.events
        )

    @property
    def held(self) -> int:
        """Number of states that are held."""
        return len(self._held)

    @property
    def set_aside(self) -> int:
        """Number of events that wait for a document that could not be read."""
        return sum(len(each.events) for each in self._waiting.values() if each.is_unread)

    def unread(self, limit: int) -> list[str]:
        """Return the files whose events were set aside, the longest waiting first."""
        unread = (file_id for file_id, each in self._waiting.items() if each.is_unread)
        return list(islice(unread, limit))

    def recall(
        self, file_ids: Iterable[str], stored: Mapping[str, Status], now: float
    ) -> list[Update]:
        """Fold events that were set aside; return the resulting states in delivery order.

        Args:
            file_ids: the files whose documents were requested.
            stored: the documents that exist.
            now: monotonic seconds.
        """
        updates: list[Update] = []
        for file_id in file_ids:
            waiting = self._waiting.get(file_id)
            if waiting is not None and waiting.is_unread:
                waiting.is_unread, waiting.since = False, now
                updates += self._fold_waiting(file_id, stored)
        return updates

    def fold(
        self,
        events: Sequence[Observed],
        stored: Mapping[str, Status],
        *,
        overdue: Sequence[str],
        read: StreamCursor,
        now: float,
        unread: Collection[str] = (),
        may_drop: bool = True,
    ) -> list[Update]:
        """Fold events; return the resulting states in delivery order.

        Args:
            events: the events, in log order.
            stored: MongoDB's documents of the files that are not held.
            overdue: files whose waiting events are folded now, even without their cause.
            read: the cursor after these events.
            now: monotonic seconds.
            unread: files that are not held and whose documents could not be read.
            may_drop: True if the projector has stored what would be dropped. Only the caller can
                know this.
        """
        updates: list[Update] = []
        for each in events:
            if each.event.subject in unread and not self._is_new(each):
                self._set_aside(each, now)
            else:
                updates += self._fold(each, stored, now)
        for file_id in overdue:
            if file_id not in self._held and file_id in unread:
                if (waiting := self._waiting.get(file_id)) is not None:
                    waiting.is_unread = True
            else:
                updates += self._fold_waiting(file_id, stored, regardless=True)
        self._read.update(read)
        while may_drop and len(self._held) > MAX_HELD:
            dropped, held = self._held.popitem(last=False)
            # A repeated upload record of this file would look like a new file.
            self._first_new = max(self._first_new, dropped + LEAST)
            if held.status is not None and held.status.batch_id is not None:
                self._first_whole = max(self._first_whole, held.status.batch_id + LEAST)
        return updates

    def cursor(self) -> StreamCursor:
        """Return the cursor up to which everything was published, never past a waiting event."""
        cursor = dict(self._read)
        for waiting in self._waiting.values():
            for observed in waiting.events:
                if (place := observed.place) is not None:
                    cursor[place.partition] = min(cursor[place.partition], place.offset)
        return cursor

    def _is_new(self, observed: Observed) -> bool:
        """Return True if the file is held, or if the event is the upload of a new file.

        An upload whose id is newer than the tail has no earlier record that was missed. A repeated
        upload with an older id may belong to a file that was deleted since.
        """
        file_id = observed.event.subject
        return file_id in self._held or (
            isinstance(observed.event, FileUploaded) and self.is_new(file_id)
        )

    def _set_aside(self, observed: Observed, now: float) -> None:
        """Keep an event until the document of its file can be read."""
        if observed.partition is not None:
            self._read[observed.partition] = observed.offset + 1
        waiting = self._waiting.setdefault(observed.event.subject, _Waiting(now))
        waiting.is_unread = True
        waiting.add(observed)

    def _fold(self, observed: Observed, stored: Mapping[str, Status], now: float) -> list[Update]:
        """Fold an event and all events that waited for it; return the resulting states."""
        file_id = observed.event.subject
        if observed.partition is not None:
            self._read[observed.partition] = observed.offset + 1
        waiting = self._waiting.get(file_id)
        if waiting is None:
            held = self._held_before(observed, stored)
            if is_due(held.status, observed.event):
                return self._apply(held, observed)
            waiting = self._waiting[file_id] = _Waiting(now)
        waiting.is_unread = False
        waiting.add(observed)
        return self._fold_waiting(file_id, stored)

    def _fold_waiting(
        self, file_id: str, stored: Mapping[str, Status], *, regardless: bool = False
    ) -> list[Update]:
        """Fold the waiting events whose causes are known, or all of them if `regardless`."""
        waiting = self._waiting.get(file_id)
        updates: list[Update] = []
        while waiting is not None and waiting.events:
            # A topic is ordered, so an event also waits behind earlier events of its own topic.
            heads = {each.topic: each for each in reversed(waiting.events)}.values()
            held = self._held_before(waiting.events[0], stored)
            due = (each for each in heads if is_due(held.status, each.event))
            observed = next(due, waiting.events[0] if regardless else None)
            if observed is None:
                return updates
            waiting.events.remove(observed)
            updates += self._apply(held, observed)
        self._waiting.pop(file_id, None)
        return updates

    def _held_before(self, observed: Observed, stored: Mapping[str, Status]) -> _Held:
        """Return the state of a file before an event, even if MongoDB is already past it."""
        file_id = observed.event.file_id
        if (held := self._held.get(file_id)) is not None:
            return held
        if (document := stored.get(file_id)) is None:
            return _Held(None)
        bounds = [
            self._read.get(Partition(topic, observed.number), 0) for topic in range(len(TOPICS))
        ]
        waiting = self._waiting.get(file_id)
        for each in (observed, *(waiting.events if waiting else ())):
            if each.topic is not None:
                bounds[each.topic] = min(bounds[each.topic], each.offset)
        status = rewind(document, dict(zip(TOPICS, bounds, strict=True)))
        if status is document:
            return _Held(Update(document))
        return _Held(Update(status) if status else None, ahead=Update(document))

    def _apply(self, held: _Held, observed: Observed) -> list[Update]:
        """Fold an event; return the resulting state if it changes anything."""
        before = held.status
        try:
            after = apply(before, observed.event, observed.offset)
        except Exception as error:  # A pure function fails because of its input.
            if self._on_failure is None:
                raise
            self._on_failure(observed, error)
            return []
        self._held[after.file_id] = held
        if after is before:
            return []
        if observed.event.type in shares.SHARING:
            held.published = Update(after)
            event: AccessEvent = observed.event  # type: ignore[assignment]
            change = notice(before, after, event, observed.place)
            if held.ahead is not None and _contains(after, held.ahead.status):
                held.ahead = None
            return [change] if change else []
        is_deletion = after.deleted_at is not None and before and before.deleted_at is None
        update = Update(after, place=observed.place, before=before if is_deletion else None)
        held.published = update
        if held.ahead is not None and _contains(after, held.ahead.status):
            held.ahead = None
        self._held.move_to_end(after.file_id)
        return [update] if before is None or adds_to(after, before) else []


def _is_progress(observed: Observed) -> bool:
    return isinstance(observed.event, FileProgressed)


def _contains(status: Status, other: Status) -> bool:
    """Return True if a state contains everything that the other one does."""
    return (
        status.position >= other.position
        and len(status.history) >= len(other.history)
        and shares.end(status.shares) >= shares.end(other.shares)
    )

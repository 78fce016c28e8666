"""The overlay: the states of files that are under way, folded from the log's tail.

It begins with what MongoDB has, and is ahead of it or behind it at times. Every pod's overlay leads
through the same states of a file in the same order, see `sequence.py`.

While MongoDB does not answer, the overlay goes on with the files that it holds and with those whose
upload it sees: the tail has the whole of their story. Events of other files are set aside until
their documents can be read, so that nothing is told that may be wrong, or of a file of which it is
not known who may see it.
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
"""States held in memory, ~3 kB each. What is dropped is the least recently changed, which the
projector stored long before."""

LEAST = "\x00"
"""Appended to an id, this gives the smallest text that is greater than it."""

MAX_CAUSE_WAIT = 1.0
"""Seconds that an event waits for what caused it. Between two topics it is milliseconds; a cause
that does not come by then was unreadable, or its record was compacted away."""


class Observed(NamedTuple):
    """An event of the tail and where it stands."""

    event: StatusEvent
    partition: Partition | None
    """Of those that cursors count; None for one whose states may be left out."""
    number: int
    """Of the partition, whether it is counted or not."""
    offset: int

    @property
    def topic(self) -> int | None:
        return None if self.partition is None else self.partition.topic

    @property
    def place(self) -> Place | None:
        return None if self.partition is None else Place(self.partition, self.offset)


@dataclass(slots=True)
class _Held:
    """What is known of a file."""

    published: Update | None
    """The last state that was told, or that was there before the tail began."""
    ahead: Update | None = None
    """What MongoDB has, as long as it is ahead of that: who reads must not see a step back."""

    @property
    def status(self) -> Status | None:
        return self.published.status if self.published else None

    @property
    def current(self) -> Update | None:
        return self.ahead or self.published


@dataclass
class _Waiting:
    """Events of a file that wait for what caused them, or for the file's document."""

    since: float
    events: list[Observed] = field(default_factory=list)
    is_unread: bool = False
    """Whether MongoDB could not be asked for the document."""

    def add(self, observed: Observed) -> None:
        """Keep an event; of progress, which may be left out, only the latest while it is unread."""
        if self.is_unread and isinstance(observed.event, FileProgressed):
            self.events = [each for each in self.events if not _is_progress(each)]
        self.events.append(observed)


class Overlay:
    """What the tail says of the files that it names."""

    def __init__(self, on_failure: Callable[[Observed, Exception], None] | None = None) -> None:
        """Args:
        on_failure: is told of an event that cannot be folded, which is then left out here, as the
            projector dead-letters it. Without it the error is raised.
        """
        self._on_failure = on_failure
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}
        self._read: dict[Partition, int] = {}
        """Of each partition, the offset of the next event that the tail brings."""
        self._first_new = ""
        """No id below this one is of a file whose whole story the tail has."""
        self._first_whole = ""
        """No id below this one is of a batch of which no file was dropped."""

    def begin(self, cursor: StreamCursor, since: datetime | None = None) -> None:
        """Say where the tail begins: what stands before is in MongoDB.

        Args:
            since: the tail has everything that was published from then on.
        """
        self._read = dict(cursor)
        self._first_new = self._first_whole = first_file_id(since or utc_now())

    def get(self, file_id: str) -> Update | None:
        """The state of a file as of now, if it is held here."""
        held = self._held.get(file_id)
        return held.current if held is not None else None

    @property
    def ids(self) -> Collection[str]:
        """The files that are held here."""
        return self._held.keys()

    def held_updates(self) -> list[Update]:
        """The states of all files that are held here."""
        return [held.current for held in self._held.values() if held.current is not None]

    def unheld(self, file_ids: Iterable[str]) -> set[str]:
        """Those of these files that are not held here."""
        # `set.difference` would walk through all that is held, for each batch of events.
        return {file_id for file_id in file_ids if file_id not in self._held}

    def overdue(self, now: float, *, at_end: bool) -> list[str]:
        """The files with events that have waited long enough for what caused them.

        Args:
            now: monotonic seconds.
            at_end: whether the log is read to its end. As long as it is not, what an event waits
                for may just not have been read.
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
        """Whether the tail has the whole story of a file, or brings it once it is in the log.

        It does of an id that is younger than the tail, and than every file that was dropped.
        """
        return file_id >= self._first_new

    def has_whole(self, batch_id: str) -> bool:
        """Whether all files of a batch are held, as far as the tail has brought their uploads.

        Their uploads are published after the batch got its id. So they are held if the tail began
        before that, and none was dropped, or set aside because its own id is older than the tail.
        """
        return batch_id >= self._first_whole and not any(
            isinstance(each.event, FileUploaded) and each.event.data.batch_id == batch_id
            for waiting in self._waiting.values()
            for each in waiting.events
        )

    @property
    def held(self) -> int:
        """How many states are held."""
        return len(self._held)

    @property
    def set_aside(self) -> int:
        """How many events wait for a document that could not be read."""
        return sum(len(each.events) for each in self._waiting.values() if each.is_unread)

    def unread(self, limit: int) -> list[str]:
        """The files with events that were set aside, those that have waited longest first."""
        unread = (file_id for file_id, each in self._waiting.items() if each.is_unread)
        return list(islice(unread, limit))

    def recall(
        self, file_ids: Iterable[str], stored: Mapping[str, Status], now: float
    ) -> list[Update]:
        """The states to which the events lead that were set aside, in the order to be told.

        Args:
            file_ids: the files for whose documents MongoDB was asked.
            stored: the documents that there are.
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
        """The states to which events lead, in the order in which they are to be told.

        Args:
            stored: what MongoDB has of the files that are not held here.
            overdue: files whose waiting events are to be folded now, whatever they wait for.
            read: how far the log is read with these events.
            now: monotonic seconds.
            unread: those of the files that are not held for which MongoDB could not be asked.
            may_drop: whether the projector has stored what would be dropped, which only the caller
                can know.
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
        """How far everything was told: not beyond an event that waits."""
        cursor = dict(self._read)
        for waiting in self._waiting.values():
            for observed in waiting.events:
                if (place := observed.place) is not None:
                    cursor[place.partition] = min(cursor[place.partition], place.offset)
        return cursor

    def _is_new(self, observed: Observed) -> bool:
        """Whether the tail has the whole story of a file that is not held, or all will be read.

        That is so of an upload whose id is younger than the tail: an earlier record of it would
        have been read. A repeat of an older one may be of a file that was deleted since.
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
        """The states to which an event leads; it may be what others have waited for."""
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
        """The states to which those events lead whose causes are known now, or all of them."""
        waiting = self._waiting.get(file_id)
        updates: list[Update] = []
        while waiting is not None and waiting.events:
            # A topic has an order: an event waits behind those of its own topic as well.
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
        """What is known of a file before an event, however far MongoDB is."""
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
        """Fold an event; the state to which it leads, if it changes anything."""
        before = held.status
        try:
            after = apply(before, observed.event, observed.offset)
        except Exception as error:  # A pure function fails on what it is given.
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
    """Whether a state knows all that the other one does."""
    return (
        status.position >= other.position
        and len(status.history) >= len(other.history)
        and shares.end(status.shares) >= shares.end(other.shares)
    )

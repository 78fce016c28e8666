"""The overlay: the states of files that are under way, folded from the log's tail.

It begins with what MongoDB has, and is ahead of it or behind it at times. Every pod's overlay leads
through the same states of a file in the same order, see `sequence.py`.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.status import shares
from services.status.cursor import TOPICS, Cursor, Partition, Place
from services.status.notices import notice
from services.status.projection import Status, apply
from services.status.sequence import is_due, rewind
from services.status.update import Update, adds_to
from shared.events import AccessEvent, StatusEvent

MAX_HELD = 50_000
"""States held in memory, ~3 kB each. What is dropped is the least recently changed, which the
projector stored long before."""

MAX_PATIENCE = 1.0
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

    told: Update | None
    """The last state that was told, or that was there before the tail began."""
    ahead: Update | None = None
    """What MongoDB has, as long as it is ahead of that: who reads must not see a step back."""

    @property
    def status(self) -> Status | None:
        return self.told.status if self.told else None

    @property
    def current(self) -> Update | None:
        return self.ahead or self.told


@dataclass
class _Waiting:
    """Events of a file that wait for what caused them."""

    since: float
    events: list[Observed] = field(default_factory=list)


class Overlay:
    """What the tail says of the files that it names."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._waiting: dict[str, _Waiting] = {}
        self._read: dict[Partition, int] = {}
        """Of each partition, the offset of the next event that the tail brings."""

    def begin(self, cursor: Cursor) -> None:
        """Say where the tail begins: what stands before is in MongoDB."""
        self._read = dict(cursor)

    def get(self, file_id: str) -> Update | None:
        """The state of a file as of now, if it is held here."""
        held = self._held.get(file_id)
        return held.current if held is not None else None

    @property
    def ids(self) -> Collection[str]:
        """The files that are held here."""
        return self._held.keys()

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
            if now - waiting.since > MAX_PATIENCE
        ]

    def fold(
        self,
        events: Sequence[Observed],
        stored: Mapping[str, Status],
        *,
        overdue: Sequence[str],
        read: Cursor,
        now: float,
    ) -> list[Update]:
        """The states to which events lead, in the order in which they are to be told.

        Args:
            stored: what MongoDB has of the files that are not held here.
            overdue: files whose waiting events are to be folded now, whatever they wait for.
            read: how far the log is read with these events.
            now: monotonic seconds.
        """
        told: list[Update] = []
        for each in events:
            told += self._fold(each, stored, now)
        for file_id in overdue:
            told += self._fold_waiting(file_id, stored, regardless=True)
        self._read.update(read)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)
        return told

    def cursor(self) -> Cursor:
        """How far everything was told: not beyond an event that waits."""
        cursor = dict(self._read)
        for waiting in self._waiting.values():
            for observed in waiting.events:
                if (place := observed.place) is not None:
                    cursor[place.partition] = min(cursor[place.partition], place.offset)
        return cursor

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
        waiting.events.append(observed)
        return self._fold_waiting(file_id, stored)

    def _fold_waiting(
        self, file_id: str, stored: Mapping[str, Status], *, regardless: bool = False
    ) -> list[Update]:
        """The states to which those events lead whose causes are known now, or all of them."""
        waiting = self._waiting.get(file_id)
        told: list[Update] = []
        while waiting is not None and waiting.events:
            # A topic has an order: an event waits behind those of its own topic as well.
            heads = {each.topic: each for each in reversed(waiting.events)}.values()
            held = self._held_before(waiting.events[0], stored)
            due = (each for each in heads if is_due(held.status, each.event))
            observed = next(due, waiting.events[0] if regardless else None)
            if observed is None:
                return told
            waiting.events.remove(observed)
            told += self._apply(held, observed)
        self._waiting.pop(file_id, None)
        return told

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
        after = apply(before, observed.event, observed.offset)
        self._held[after.file_id] = held
        if after is before:
            return []
        if observed.event.type in shares.SHARING:
            held.told = Update(after)
            event: AccessEvent = observed.event  # type: ignore[assignment]
            told = notice(before, after, event, observed.place)
            if held.ahead is not None and _contains(after, held.ahead.status):
                held.ahead = None
            return [told] if told else []
        is_deletion = after.deleted_at is not None and before and before.deleted_at is None
        update = Update(after, place=observed.place, before=before if is_deletion else None)
        held.told = update
        if held.ahead is not None and _contains(after, held.ahead.status):
            held.ahead = None
        self._held.move_to_end(after.file_id)
        return [update] if before is None or adds_to(after, before) else []


def _contains(status: Status, other: Status) -> bool:
    """Whether a state knows all that the other one does."""
    return (
        status.position >= other.position
        and len(status.history) >= len(other.history)
        and shares.end(status.shares) >= shares.end(other.shares)
    )

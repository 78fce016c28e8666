"""What a subscriber follows, and the states that it has yet to be told."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from services.status.cursor import Cursor, Place
from services.status.projection import State, Status
from shared.telemetry import PUSHED

CONFLATE_ABOVE = 500
"""States that wait for one subscriber before those are left out that a later one has overtaken."""

MAX_BACKLOG = 2000
"""States that wait for one subscriber, some 1.5 MB; one that reads no faster is cut off, and gets
the rest when it connects again."""

MAX_DELAY = 10.0
"""Seconds that a state waits for a subscriber that does not read before it is cut off."""


class Update:
    """A state of a file, serialised at most once however many follow it."""

    def __init__(
        self, status: Status, *, place: Place | None = None, before: Status | None = None
    ) -> None:
        """Args:
        place: where the event stands that led to the state; None if the state is a snapshot, or
            one that may be left out: progress.
        before: the state before, if it is what tells who may know: a deleted file has no owner.
        """
        self.status = status
        self.place = place
        self.audience = before or status
        self._message: tuple[str | None, str] | None = None

    @cached_property
    def full(self) -> bytes:
        """The status document, with its history, as JSON."""
        return self.status.model_dump_json().encode()

    @cached_property
    def summary(self) -> bytes:
        """The status document without its history, as JSON."""
        return self.status.model_dump_json(exclude={"history"}).encode()

    @cached_property
    def frame(self) -> bytes:
        """The summary as an unnamed Server-Sent Event."""
        return b"data: " + self.summary + b"\n\n"

    def message(self, cursor: str | None) -> str:
        """The summary as a message of the WebSocket; the same object for the same cursor."""
        if self._message is None or self._message[0] != cursor:
            tail = "" if cursor is None else f',"cursor":"{cursor}"'
            text = f'{{"type":"status","status":{self.summary.decode()}{tail}}}'
            self._message = (cursor, text)
        return self._message[1]

    @cached_property
    def etag(self) -> str:
        """The entity tag of the document (RFC 9110)."""
        return f'"{blake2b(self.full, digest_size=8).hexdigest()}"'


class Group(NamedTuple):
    """Those who follow one thing: a file, a batch, an owner, a label, or all files."""

    kind: str
    value: str = ""


ALL = Group("all")


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which files a subscriber follows; None leaves a field open."""

    ids: frozenset[str] | None = None
    owner: str | None = None
    batch_id: str | None = None
    label: str | None = None
    """`key:value`."""
    status: State | None = None

    def matches(self, status: Status) -> bool:
        """Whether a file belongs to what is followed."""
        return (
            (self.ids is None or status.file_id in self.ids)
            and (self.owner is None or status.owner == self.owner)
            and (self.batch_id is None or status.batch_id == self.batch_id)
            and (self.status is None or status.status is self.status)
            and (self.label is None or self._has_label(status))
        )

    def groups(self) -> list[Group]:
        """Where the subscriber is found when a file changes: under what tells most."""
        if self.ids is not None:
            return [Group("id", file_id) for file_id in self.ids]
        if self.batch_id is not None:
            return [Group("batch", self.batch_id)]
        if self.owner is not None:
            return [Group("owner", self.owner)]
        if self.label is not None:
            return [Group("label", self.label)]
        return [ALL]

    def _has_label(self, status: Status) -> bool:
        key, _, value = (self.label or "").partition(":")
        return status.labels.get(key) == value


def groups_of(status: Status) -> Iterator[Group]:
    """Where those are found who may follow a file."""
    yield Group("id", status.file_id)
    if status.batch_id is not None:
        yield Group("batch", status.batch_id)
    if status.owner is not None:
        yield Group("owner", status.owner)
    for key, value in status.labels.items():
        yield Group("label", f"{key}:{value}")
    yield ALL


@dataclass(eq=False)
class Subscription:
    """The states that one subscriber has yet to be told, oldest first."""

    filter: Filter
    on_cut: Callable[[], object] = lambda: None
    """Called when the subscriber is cut off, to end a send that does not."""
    closed: bool = False
    is_cut: bool = False
    _backlog: deque[Update] = field(default_factory=deque)
    _conflate_above: int = CONFLATE_ABOVE
    _waiting_since: float = 0.0
    _waiter: asyncio.Future[None] | None = None
    _beats: bool = False
    _told: dict[str, Status] = field(default_factory=dict)
    """Of files whose state was read from a snapshot: what comes next must be newer."""
    _resumed: Cursor = field(default_factory=dict)
    """What the subscriber knows from another pod, which was ahead of this one."""

    def offer(self, update: Update, now: float) -> None:
        """Put a state at the end of the backlog, or cut off a subscriber that does not read.

        Args:
            now: monotonic seconds.
        """
        if self.is_cut:
            return
        if not self._backlog:
            self._waiting_since = now
        self._backlog.append(update)
        if len(self._backlog) > self._conflate_above:
            self._conflate()
        if len(self._backlog) > MAX_BACKLOG or now - self._waiting_since > MAX_DELAY:
            self._cut()
        else:
            self._wake()

    def resume(self, cursor: Cursor) -> None:
        """Leave out what stands before the cursor."""
        self._resumed = cursor

    def wants(self, update: Update) -> bool:
        """Whether this is of what is followed, and not known from before the subscriber came."""
        if not self.filter.matches(update.audience):
            return False
        place = update.place
        return place is None or place.offset >= self._resumed.get(place.partition, 0)

    def has_seen(self, status: Status) -> None:
        """Leave out what is not newer than a state that the subscriber is told by other ways."""
        self._told[status.file_id] = status

    def close(self) -> None:
        """Tell the subscriber that no more comes."""
        self.closed = True
        self._wake()

    def beat(self) -> None:
        """End a wait that has no time of its own."""
        if self._beats:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float | None = None) -> list[Update]:
        """What has arrived; an empty list when closed, after so many seconds, or at a beat."""
        if not self._backlog and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            self._beats = seconds is None
            if seconds is None:
                await self._waiter
            else:
                await asyncio.wait((self._waiter,), timeout=seconds)
        arrived = list(self._backlog)
        self._backlog.clear()
        self._conflate_above = CONFLATE_ABOVE
        if self._told:
            arrived = [update for update in arrived if self._is_news(update.status)]
        PUSHED.inc(len(arrived))
        return arrived

    def _is_news(self, status: Status) -> bool:
        told = self._told.get(status.file_id)
        if told is not None:
            if not adds_to(status, told):
                return False
            del self._told[status.file_id]
        return True

    def _conflate(self) -> None:
        """Leave out progress that was overtaken; what a file went through stays."""
        latest = {update.status.file_id: update for update in self._backlog}
        self._backlog = deque(
            update
            for update in self._backlog
            if update.place is not None or latest[update.status.file_id] is update
        )
        self._conflate_above = max(CONFLATE_ABOVE, 2 * len(self._backlog))

    def _cut(self) -> None:
        self.is_cut = self.closed = True
        self._backlog.clear()
        self.on_cut()


def adds_to(status: Status, told: Status) -> bool:
    """Whether a state tells something beside the one that was told; streams tell no histories."""
    if status.position != told.position:
        return status.position > told.position
    return status.model_copy(update={"history": told.history}) != told

"""The hub: what this pod knows of files that are under way, and who follows them.

The fan-out hands every event of the log's tail to `observe`, which folds it into the state of its
file and gives the new state to all who follow the file. The state of a file that is not held here
is in MongoDB, so `observe` reads it from there before it folds the first event. A subscription
begins to collect before its snapshot is read; a state that is not newer than the last one sent is
left out. So there is neither a gap nor a step back.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

from services.status.projection import State, Status, apply
from services.status.store import FileStore
from shared.errors import OverloadedError
from shared.events import StatusEvent
from shared.telemetry import PUSHED, SUBSCRIBERS

MAX_HELD = 50_000
"""States held in memory, ~3 kB each. What is dropped is the least recently changed, which the
projector stored long before."""

MAX_BACKLOG = 1000
"""States that wait for one subscriber; beyond that only the latest of each file waits."""


class Update:
    """A state of a file, serialised at most once however many follow it."""

    def __init__(self, status: Status) -> None:
        self.status = status

    @cached_property
    def full(self) -> bytes:
        """The status document, with its history, as JSON."""
        return self.status.model_dump_json().encode()

    @cached_property
    def summary(self) -> bytes:
        """The status document without its history, as JSON."""
        return self.status.model_dump_json(exclude={"history"}).encode()

    @cached_property
    def etag(self) -> str:
        """The entity tag of the document (RFC 9110)."""
        return f'"{blake2b(self.full, digest_size=8).hexdigest()}"'


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

    def _has_label(self, status: Status) -> bool:
        key, _, value = (self.label or "").partition(":")
        return status.labels.get(key) == value


@dataclass(eq=False)
class Subscription:
    """The states that one subscriber has yet to be told, oldest first."""

    filter: Filter
    _backlog: deque[Update] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def offer(self, update: Update) -> None:
        """Put a state at the end of the backlog; conflate the backlog if it is too long."""
        self._backlog.append(update)
        if len(self._backlog) > MAX_BACKLOG:
            latest = {each.status.file_id: each for each in self._backlog}
            self._backlog = deque(latest.values())
        self._arrived.set()

    def close(self) -> None:
        """Tell the subscriber that no more comes."""
        self.closed = True
        self._arrived.set()

    async def wait(self, seconds: float) -> list[Update]:
        """What has arrived; an empty list after so many seconds of silence or when closed."""
        if not self._backlog and not self.closed:
            try:
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        self._arrived.clear()
        arrived = list(self._backlog)
        self._backlog.clear()
        PUSHED.inc(len(arrived))
        return arrived


class Hub:
    """Current states of files, and the subscriptions to them."""

    def __init__(self, store: FileStore, *, max_subscribers: int) -> None:
        self._store = store
        self._max_subscribers = max_subscribers
        self._held: OrderedDict[str, Update] = OrderedDict()
        self._by_id: dict[str, set[Subscription]] = {}
        self._by_field: set[Subscription] = set()
        self.closing = False
        self.behind: str | None = "Kafka"
        """What this pod waits for before its answers are up to date; None when they are."""

    async def current(self, file_id: str) -> Update | None:
        """The state of a file as of now, or None if it is not known."""
        if (held := self._held.get(file_id)) is not None:
            return held
        stored = await self._store.get(file_id)
        # The tail may have brought something newer while MongoDB answered.
        return self._held.get(file_id) or (Update(stored) if stored else None)

    async def snapshot(self, wanted: Filter) -> list[Update]:
        """The current states of the files that a filter names by id."""
        ids = wanted.ids or frozenset()
        stored = await self._store.get_many(ids - self._held.keys()) if ids else {}
        known = {file_id: Update(status) for file_id, status in stored.items()}
        known |= {file_id: self._held[file_id] for file_id in ids & self._held.keys()}
        return [update for update in known.values() if wanted.matches(update.status)]

    async def observe(self, events: Iterable[tuple[StatusEvent, int]]) -> None:
        """Fold events of the log's tail, each with its offset, and tell the subscribers."""
        events = list(events)
        unknown = {event.file_id for event, _ in events} - self._held.keys()
        stored = await self._store.get_many(unknown) if unknown else {}
        for event, offset in events:
            held = self._held.get(event.file_id)
            before = held.status if held else stored.get(event.file_id)
            after = apply(before, event, offset)
            if held is not None and after is before:
                continue
            # A state that MongoDB had first is told as well: this pod has not told it yet.
            update = self._held[event.file_id] = Update(after)
            self._held.move_to_end(event.file_id)
            self._tell(update)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)

    @contextmanager
    def subscribe(self, wanted: Filter) -> Iterator[Subscription]:
        """Collect what happens to the files that `wanted` matches.

        Raises:
            OverloadedError: there are as many subscribers as this pod may have.
        """
        if len(self._by_field) + len(self._by_id) >= self._max_subscribers:
            raise OverloadedError("This pod has as many live connections as it may have.")
        subscription = Subscription(wanted)
        if self.closing:
            subscription.close()
        groups = (
            [self._by_field]
            if wanted.ids is None
            else [self._by_id.setdefault(file_id, set()) for file_id in wanted.ids]
        )
        for group in groups:
            group.add(subscription)
        SUBSCRIBERS.inc()
        try:
            yield subscription
        finally:
            SUBSCRIBERS.dec()
            for group in groups:
                group.discard(subscription)
            for file_id in wanted.ids or ():
                if not self._by_id.get(file_id, True):
                    del self._by_id[file_id]

    async def follow(self, file_id: str, *, heartbeat: float) -> AsyncIterator[Update | None]:
        """The states of one file from now on, without gap or step back, to its terminal one.

        Yields None after each `heartbeat` seconds of silence. Ends early when the pod shuts down.
        """
        with self.subscribe(Filter(ids=frozenset({file_id}))) as subscription:
            last = await self.current(file_id)
            if last is not None:
                yield last
            while not subscription.closed and not (last and _is_over(last.status)):
                arrived = await subscription.wait(heartbeat)
                if not arrived and not subscription.closed:
                    yield None
                for update in arrived:
                    if last is None or _is_news(update.status, last.status):
                        last = update
                        yield update

    async def next_change(
        self, file_id: str, *, known: str | None, seconds: float
    ) -> Update | None:
        """The state of a file once it differs from the one with the entity tag `known`.

        Without `known`, the state after the present one. A terminal state is given at once, and
        the present one when `seconds` are over; None if the file is not known then.
        """
        with self.subscribe(Filter(ids=frozenset({file_id}))) as subscription:
            current = await self.current(file_id)
            if current and (_is_over(current.status) or known not in (None, current.etag)):
                return current
            arrived = await subscription.wait(seconds)
            return arrived[-1] if arrived else await self.current(file_id)

    def close(self) -> None:
        """End all subscriptions; may be called from a signal handler."""
        self.closing = True
        for subscription in {
            *self._by_field,
            *(s for group in self._by_id.values() for s in group),
        }:
            subscription.close()

    def _tell(self, update: Update) -> None:
        status = update.status
        for subscription in (*self._by_id.get(status.file_id, ()), *self._by_field):
            if subscription.filter.matches(status):
                subscription.offer(update)


def _is_news(status: Status, last: Status) -> bool:
    return status.position >= last.position and status != last


def _is_over(status: Status) -> bool:
    return status.status.is_terminal or status.deleted_at is not None

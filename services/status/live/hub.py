"""The hub: the current states of files in progress, and the subscriptions to them.

The fan-out passes every event of the log's tail to `observe`. The hub folds it into the state of
its file and delivers the new state to all subscribers of that file. Every pod delivers the same
states. A client that reconnects with its cursor therefore receives everything it missed, from any
pod. A new client receives a snapshot and all later states.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from services.status.live.cursor import StreamCursor
from services.status.live.cursor_seal import CursorSeal
from services.status.live.delivery import deliver_each, log_unfoldable, send_heartbeats
from services.status.live.document_reader import DocumentReader
from services.status.live.filter import Filter, Group, groups_of
from services.status.live.overlay import MAX_HELD, Observed, Overlay
from services.status.live.ports import Outbox, close_at_end_of
from services.status.live.recent import Recent, RecentBatch
from services.status.live.snapshot import Snapshot, take_snapshot
from services.status.live.subscription import Subscription
from services.status.live.update import Batches, Update
from services.status.projection.projection import Status
from services.status.store.access import EVERYTHING, Visibility
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.errors import MongoUnavailableError, OverloadedError, UnavailableError
from shared.kafka.consuming import note_error
from shared.telemetry import PUSHED, SUBSCRIBERS

RECALL_EVERY = 0.25
"""Seconds between two checks for events that were set aside. Normally there are none."""

RECALLED_AT_ONCE = 1000
"""Files whose documents are read in one query."""

MAX_SET_ASIDE = 20_000
"""Events that may wait for MongoDB, about 20 MB. Above that, the fan-out stops and the tail waits
in Kafka."""

MAX_HELD_MEANWHILE = 2 * MAX_HELD
"""States held while MongoDB is unavailable, about 300 MB. States that the projector has not stored
must not be dropped, so above this limit the tail waits in Kafka. After MongoDB recovers, a lagging
projector must neither block the tail nor fill the memory. Above the limit the hub then drops the
least recently changed states and answers with MongoDB's documents."""


class Hub:
    """The current states of files and the subscriptions to them."""

    def __init__(self, store: FileStore, *, max_subscribers: int, max_per_client: int) -> None:
        # Called with the published states and the time in monotonic seconds.
        self.on_published: Callable[[Sequence[Update], float], None] = lambda _, __: None
        # Returns the number of records that the projector has yet to store; None if unknown.
        self.unstored: Callable[[], int | None] = lambda: None
        # Searched for files that neither MongoDB nor the tail knows.
        self.outbox: Outbox | None = None
        self._store = store
        self._documents = DocumentReader(store)
        self._max_subscribers = max_subscribers
        self._max_per_client = max_per_client
        self._overlay = Overlay(on_failure=log_unfoldable)
        self.seal = CursorSeal()
        self._recent = Recent({}, self.seal)
        self._previous_cursor: StreamCursor = {}
        """The cursor before the batch that is being delivered."""
        self._subscriptions: set[Subscription] = set()
        self._groups: dict[Group, set[Subscription]] = {}
        self._clients: Counter[str] = Counter()
        self.closing = False
        self.is_at_end = True
        """True if the last read reached the end of the log."""
        self.behind: str | None = "Kafka"
        """What this pod waits for before its answers are up to date; None when they are."""
        self._at_end_at = time.monotonic()

    def begin(self, cursor: StreamCursor, since: datetime) -> None:
        """Set where the tail begins. Everything before that is in MongoDB.

        Args:
            cursor: offset of the first event of each partition.
            since: the tail has everything published from then on.
        """
        self._overlay.begin(cursor, since)
        self._recent = Recent(cursor, self.seal)

    @property
    def last_batch(self) -> RecentBatch:
        """The latest batch that was published, with its cursor."""
        return self._recent.last

    @property
    def seconds_behind(self) -> float:
        """Seconds since this pod last reached the end of the log."""
        return time.monotonic() - self._at_end_at

    def has_whole(self, batch_id: str) -> bool:
        """Return True if the hub holds all files of a batch that are in the log."""
        return self._overlay.has_whole(batch_id)

    def batch(self, batch_id: str, visible_to: Visibility) -> list[Status]:
        """Return the files of a batch that this pod holds, regardless of MongoDB."""
        held = self._overlay.held_updates()
        mine = (each for each in held if visible_to.permits(each.audience))
        return [
            each.status
            for each in mine
            if each.status.batch_id == batch_id and each.status.deleted_at is None
        ]

    def held(self, file_id: str, visible_to: Visibility) -> Update | None:
        """Return the state of a file that this pod holds, or None if it is not held or hidden."""
        held = self._overlay.get(file_id)
        return held if held is not None and visible_to.permits(held.audience) else None

    async def current(self, file_id: str, visible_to: Visibility = EVERYTHING) -> Update | None:
        """Return the current state of a file, or None if the file is unknown.

        A file that is not visible takes the same path as an unknown one, and so the same time.

        Raises:
            UnavailableError: only MongoDB could know the file, and it is unavailable.
        """
        if held := self.held(file_id, visible_to):
            return held
        stored, failure = None, None
        try:
            stored = await self._store.get(file_id, visible_to)
        except UnavailableError as error:
            failure = error
        if stored is None and self.outbox is not None:
            waiting = await self.outbox.find(file_id)
            stored = waiting if waiting and visible_to.permits(waiting) else None
        # The tail may have delivered a newer state while the stores were queried.
        if held := self.held(file_id, visible_to):
            return held
        if stored is None and failure is not None:
            raise failure
        return Update(stored) if stored is not None and self.shows(stored, visible_to) else None

    def shows(self, stored: Status, visible_to: Visibility) -> bool:
        """Return True if a file that MongoDB shows to a reader is still visible to that reader.

        The projector may not have stored a withdrawal that this pod has already read.
        """
        held = self._overlay.get(stored.file_id)
        if held is None or held.audience.created_at is None:
            return True
        return visible_to.permits(held.audience)

    async def observe(
        self, events: Sequence[Observed], read: StreamCursor, *, at_end: bool = True
    ) -> None:
        """Fold events of the log's tail, in log order, and deliver the new states to subscribers.

        Args:
            read: the cursor after these events. It also counts records that are not events.
            at_end: True if this read reached the end of the log.

        Raises:
            UnavailableError: MongoDB is unavailable and too much waits for it; nothing was folded.
        """
        now = time.monotonic()
        self.is_at_end = at_end
        if at_end:
            self._at_end_at = now
        overdue = self._overlay.overdue(now, at_end=at_end)
        concerned = {*overdue, *(each.event.file_id for each in events)}
        unknown = self._overlay.unheld(concerned)
        stored = await self._stored(unknown) if unknown else {}
        updates = self._overlay.fold(
            events,
            stored or {},
            overdue=overdue,
            read=read,
            now=now,
            unread=unknown if stored is None else (),
            may_drop=self._documents.is_caught_up(now, unstored=self.unstored())
            or (self._overlay.held > MAX_HELD_MEANWHILE and not self._documents.is_away),
        )
        self._publish(updates, now)

    @property
    def degraded(self) -> str | None:
        """What does not work because MongoDB is unavailable; None while it is available."""
        waiting = self._overlay.set_aside
        if not self._documents.is_away and not waiting:
            return None
        return f"MongoDB is unavailable: {waiting} events of files unknown to this pod are waiting"

    async def recall(self, loop: RunningLoop) -> None:
        """Deliver set-aside events once MongoDB is available again. Runs until cancelled.

        Raises:
            UnavailableError: MongoDB is unavailable.
        """
        while True:
            while unread := self._overlay.unread(RECALLED_AT_ONCE):
                stored = await self._store.get_many(unread)
                now = time.monotonic()
                self._publish(self._overlay.recall(unread, stored, now), now)
            if self._documents.is_away:
                await self._documents.read(())  # Is it available again?
            loop.succeeded()
            await asyncio.sleep(RECALL_EVERY)

    async def _stored(self, file_ids: Collection[str]) -> dict[str, Status] | None:
        """Return the documents of files, or None if MongoDB is unavailable.

        Raises:
            UnavailableError: MongoDB is unavailable and too many events already wait for it.
        """
        stored = await self._documents.read(file_ids)
        if stored is None and (
            self._overlay.set_aside > MAX_SET_ASIDE
            or self._overlay.held + len(file_ids) > MAX_HELD_MEANWHILE
        ):
            raise MongoUnavailableError("MongoDB is unavailable and too many events wait for it.")
        return stored

    def _publish(self, updates: Sequence[Update], now: float) -> None:
        """Keep states for clients that reconnect, and deliver them to the subscribers."""
        self._previous_cursor = self.last_batch.cursor
        self._recent.remember(updates, self._overlay.cursor())
        if self._subscriptions:
            self._deliver(updates, now)
        # The overlay already has these states, so a retry would not deliver them again.
        try:
            self.on_published(updates, now)
        except Exception as error:
            note_error("queue_stats", error, f"{len(updates)} states")

    def missed(
        self, subscription: Subscription, cursor: StreamCursor
    ) -> Iterator[RecentBatch] | None:
        """Return what a subscriber missed since its cursor, or None if the cursor is too old.

        Call this in the same step of the event loop in which the subscription began. Each batch
        carries the cursor that is valid after it was delivered.
        """
        batches = self._recent.since(cursor)
        subscription.resume(cursor, lambda: self._previous_cursor)
        return (
            None
            if batches is None
            else (
                RecentBatch(missed, batch.cursor, self.seal)
                for batch in batches
                if (missed := [each for each in batch.updates if subscription.wants(each)])
            )
        )

    async def snapshot(self, subscription: Subscription) -> Snapshot:
        """Return the current states of the files that a subscription follows.

        Raises:
            UnavailableError: see `take_snapshot`.
        """
        snapshot = await take_snapshot(subscription.filter, self._overlay, self._store)
        for update in snapshot.updates:
            subscription.has_seen(update.status)
        return snapshot

    def admit(self, client: str | None) -> None:
        """Check that one more client may subscribe.

        Raises:
            OverloadedError: this pod or this client has reached its limit of subscribers.
        """
        if len(self._subscriptions) >= self._max_subscribers:
            raise OverloadedError("This pod has reached its limit of live connections.")
        if client is not None and self._clients[client] >= self._max_per_client:
            raise OverloadedError("This client has reached its limit of live connections.")

    @contextmanager
    def subscribe(
        self,
        wanted: Filter,
        *,
        client: str | None = None,
        on_disconnect: Callable[[], object] = lambda: None,
    ) -> Iterator[Subscription]:
        """Collect the updates of all files that `wanted` matches.

        If the subscription is detached meanwhile, it continues until `release` is called.

        Args:
            client: address of the subscriber, if the limit per client applies.
            on_disconnect: called when a subscriber that reads too slowly is disconnected.

        Raises:
            OverloadedError: this pod or this client has reached its limit of subscribers.
            TokenExpiredError: the subscriber's credentials have expired.
        """
        self.admit(client)
        subscription = Subscription(wanted, client=client, on_disconnect=on_disconnect)
        if self.closing:
            subscription.close()
        subscription.expiry = close_at_end_of(wanted.visible_to, subscription)
        for group in wanted.groups():
            self._groups.setdefault(group, set()).add(subscription)
        self._subscriptions.add(subscription)
        if client is not None:
            self._clients[client] += 1
        SUBSCRIBERS.inc()
        try:
            yield subscription
        finally:
            if not subscription.is_detached:
                self.release(subscription)

    def release(self, subscription: Subscription) -> None:
        """End the subscription of a client that has disconnected."""
        SUBSCRIBERS.dec()
        if subscription.expiry is not None:
            subscription.expiry.cancel()
        if (client := subscription.client) is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
        self._subscriptions.discard(subscription)
        for group in subscription.filter.groups():
            followers = self._groups[group]
            followers.discard(subscription)
            if not followers:
                del self._groups[group]

    async def follow(
        self, file_id: str, *, heartbeat: float, visible_to: Visibility = EVERYTHING
    ) -> AsyncGenerator[Update | None, None]:
        """Yield the states of one file until its terminal state, without gaps or steps back.

        Yields None after each `heartbeat` seconds without an update. Ends early when the pod shuts
        down or the file is no longer shared with the subscriber.
        """
        wanted = Filter(ids=frozenset({file_id}), visible_to=visible_to)
        with self.subscribe(wanted) as subscription:
            last = await self.current(file_id, visible_to)
            if last is not None:
                subscription.has_seen(last.status)
                yield last
            while not subscription.closed and not (last and is_over(last.status)):
                arrived = await subscription.wait(heartbeat)
                if not arrived and not subscription.closed:
                    yield None
                for update in arrived:
                    if update.withdraws:
                        return
                    last = update
                    yield update

    async def beat(self, seconds: float, loop: RunningLoop) -> None:
        """Send a heartbeat to all streams at this interval, from one timer, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            batches = Batches(self.last_batch.text)
            send_heartbeats(tuple(self._subscriptions), batches)
            loop.succeeded()

    def audiences(self) -> set[Visibility]:
        """Return the visibility of each live connection."""
        return {subscription.filter.visible_to for subscription in self._subscriptions}

    def end(self, audience: Visibility) -> None:
        """End all subscriptions with this visibility."""
        for subscription in tuple(self._subscriptions):
            if subscription.filter.visible_to == audience:
                subscription.close()

    def close(self) -> None:
        """End all subscriptions. May be called from a signal handler."""
        self.closing = True
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def _deliver(self, updates: Sequence[Update], now: float) -> None:
        wanted: dict[Subscription, list[Update]] = defaultdict(list)
        for update in updates:
            for group in groups_of(update.audience):
                for subscription in self._groups.get(group, ()):
                    if subscription.wants(update):
                        wanted[subscription].append(update)
        batches = Batches(self.last_batch.text)
        PUSHED.inc(deliver_each(wanted, batches, now))


def is_over(status: Status) -> bool:
    """Return True if the present run of a file is over or the file is deleted."""
    return status.status.is_terminal or status.deleted_at is not None

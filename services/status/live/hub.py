"""The hub: what this pod knows of files that are under way, and who follows them.

The fan-out hands every event of the log's tail to `observe`, which folds it into the state of its
file and tells the new state to all who follow the file. Every pod tells the same states; so a
subscriber that comes back with a cursor gets from any of them what it missed, and one that comes
anew gets a snapshot and all that follows.
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
"""Seconds between two looks for events that were set aside: normally there are none."""

RECALLED_AT_ONCE = 1000
"""Files whose documents are read together."""

MAX_SET_ASIDE = 20_000
"""Events that may wait for MongoDB, some 20 MB. With more the tail waits in Kafka."""

MAX_HELD_MEANWHILE = 2 * MAX_HELD
"""States that are held while MongoDB is away, some 300 MB: none may be dropped that the projector
has not stored. With more the tail waits in Kafka. Once MongoDB answers, a projector that lags must
neither hold up the tail nor fill the memory: with more, the least recent ones are dropped all the
same, and are answered by what MongoDB has of them until the projector has caught up."""


class Hub:
    """Current states of files, and the subscriptions to them."""

    def __init__(self, store: FileStore, *, max_subscribers: int, max_per_client: int) -> None:
        # Called with the states that are told, and with monotonic seconds.
        self.on_published: Callable[[Sequence[Update], float], None] = lambda _, __: None
        # How many records the projector has yet to store; None if that is not known.
        self.unstored: Callable[[], int | None] = lambda: None
        # Where files are looked for that neither MongoDB nor the tail knows.
        self.outbox: Outbox | None = None
        self._store = store
        self._documents = DocumentReader(store)
        self._max_subscribers = max_subscribers
        self._max_per_client = max_per_client
        self._overlay = Overlay(on_failure=log_unfoldable)
        self.seal = CursorSeal()
        self._recent = Recent({}, self.seal)
        self._previous_cursor: StreamCursor = {}
        """How far was told before what is told now."""
        self._subscriptions: set[Subscription] = set()
        self._groups: dict[Group, set[Subscription]] = {}
        self._clients: Counter[str] = Counter()
        self.closing = False
        self.is_at_end = True
        """Whether the log was read to its end when something was last read."""
        self.behind: str | None = "Kafka"
        """What this pod waits for before its answers are up to date; None when they are."""
        self._at_end_at = time.monotonic()

    def begin(self, cursor: StreamCursor, since: datetime) -> None:
        """Say where the tail begins: what stands before is in MongoDB.

        Args:
            since: the tail has everything that was published from then on.
        """
        self._overlay.begin(cursor, since)
        self._recent = Recent(cursor, self.seal)

    @property
    def last_batch(self) -> RecentBatch:
        """What was told last, and how far in the log that went."""
        return self._recent.last

    @property
    def seconds_behind(self) -> float:
        """Seconds since this pod had read all that there was."""
        return time.monotonic() - self._at_end_at

    def has_whole(self, batch_id: str) -> bool:
        """Whether this pod knows all files of a batch by itself, as far as they are in the log."""
        return self._overlay.has_whole(batch_id)

    def batch(self, batch_id: str, visible_to: Visibility) -> list[Status]:
        """The files of a batch that this pod knows by itself, whatever MongoDB has of them."""
        held = self._overlay.held_updates()
        mine = (each for each in held if visible_to.permits(each.audience))
        return [
            each.status
            for each in mine
            if each.status.batch_id == batch_id and each.status.deleted_at is None
        ]

    def held(self, file_id: str, visible_to: Visibility) -> Update | None:
        """The state of a file that this pod knows by itself, if it may be known of."""
        held = self._overlay.get(file_id)
        return held if held is not None and visible_to.permits(held.audience) else None

    async def current(self, file_id: str, visible_to: Visibility = EVERYTHING) -> Update | None:
        """The state of a file as of now, or None if it is not known.

        One that may not be known of takes the same way, and so the same time, as one that is not.

        Raises:
            UnavailableError: neither the tail nor the outbox has it, and MongoDB does not answer.
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
        # The tail may have brought something newer while the stores answered.
        if held := self.held(file_id, visible_to):
            return held
        if stored is None and failure is not None:
            raise failure
        return Update(stored) if stored is not None and self.shows(stored, visible_to) else None

    def shows(self, stored: Status, visible_to: Visibility) -> bool:
        """Whether a file that MongoDB shows to somebody is theirs to read still.

        The projector may not yet know that it is not: this pod does.
        """
        held = self._overlay.get(stored.file_id)
        if held is None or held.audience.created_at is None:
            return True
        return visible_to.permits(held.audience)

    async def observe(
        self, events: Sequence[Observed], read: StreamCursor, *, at_end: bool = True
    ) -> None:
        """Fold events of the log's tail, in the order of the log, and tell the subscribers.

        Args:
            read: how far the log is read with these; there are records that are no events.
            at_end: whether that is all there is.

        Raises:
            UnavailableError: MongoDB does not answer, and too much waits for it already; nothing
                was folded.
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
        """What does not work without MongoDB; None while it answers."""
        waiting = self._overlay.set_aside
        if not self._documents.is_away and not waiting:
            return None
        return f"MongoDB does not answer: {waiting} events of files not known here wait for it"

    async def recall(self, loop: RunningLoop) -> None:
        """Tell what was set aside while MongoDB was away, as soon as it answers, until cancelled.

        Raises:
            UnavailableError: MongoDB does not answer.
        """
        while True:
            while unread := self._overlay.unread(RECALLED_AT_ONCE):
                stored = await self._store.get_many(unread)
                now = time.monotonic()
                self._publish(self._overlay.recall(unread, stored, now), now)
            if self._documents.is_away:
                await self._documents.read(())  # Does it answer again?
            loop.succeeded()
            await asyncio.sleep(RECALL_EVERY)

    async def _stored(self, file_ids: Collection[str]) -> dict[str, Status] | None:
        """What MongoDB has of files; None if it does not answer.

        Raises:
            UnavailableError: it does not answer, and too much waits for it already.
        """
        stored = await self._documents.read(file_ids)
        if stored is None and (
            self._overlay.set_aside > MAX_SET_ASIDE
            or self._overlay.held + len(file_ids) > MAX_HELD_MEANWHILE
        ):
            raise MongoUnavailableError("Too many events wait for MongoDB, which does not answer.")
        return stored

    def _publish(self, updates: Sequence[Update], now: float) -> None:
        """Remember states and tell them to the subscribers."""
        self._previous_cursor = self.last_batch.cursor
        self._recent.remember(updates, self._overlay.cursor())
        if self._subscriptions:
            self._deliver(updates, now)
        # The overlay has these states already, so a retry would not deliver them again.
        try:
            self.on_published(updates, now)
        except Exception as error:
            note_error("queue_stats", error, f"{len(updates)} states")

    def missed(
        self, subscription: Subscription, cursor: StreamCursor
    ) -> Iterator[RecentBatch] | None:
        """What a subscriber missed since it was given the cursor; None if that is too long ago.

        To be called in the same step in which the subscription began. With each batch goes the
        cursor that holds once it was told.
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
        """The present states of the files that are followed; what comes afterwards is newer.

        Raises:
            UnavailableError: as `take_snapshot` does.
        """
        snapshot = await take_snapshot(subscription.filter, self._overlay, self._store)
        for update in snapshot.updates:
            subscription.has_seen(update.status)
        return snapshot

    def admit(self, client: str | None) -> None:
        """Whether one more may subscribe.

        Raises:
            OverloadedError: there are as many subscribers as this pod, or one client, may have.
        """
        if len(self._subscriptions) >= self._max_subscribers:
            raise OverloadedError("This pod has as many live connections as it may have.")
        if client is not None and self._clients[client] >= self._max_per_client:
            raise OverloadedError("This client has as many live connections as it may have.")

    @contextmanager
    def subscribe(
        self,
        wanted: Filter,
        *,
        client: str | None = None,
        on_disconnect: Callable[[], object] = lambda: None,
    ) -> Iterator[Subscription]:
        """Collect what happens to the files that `wanted` matches.

        A subscription that is detached meanwhile goes on until `release` is called.

        Args:
            client: who subscribes, if there is a limit to what one may have.
            on_disconnect: called when the subscriber does not read and is cut off.

        Raises:
            OverloadedError: there are as many subscribers as this pod, or one client, may have.
            TokenExpiredError: it is no longer known who subscribes.
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
        """End a subscription whose subscriber has gone."""
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
        """The states of one file from now on, without gap or step back, to its terminal one.

        Yields None after each `heartbeat` seconds of silence. Ends early when the pod shuts down,
        or when the file is no longer shared with who follows it.
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
        """Let all streams send a heartbeat that often, until cancelled: one timer for all."""
        while True:
            await asyncio.sleep(seconds)
            batches = Batches(self.last_batch.text)
            send_heartbeats(tuple(self._subscriptions), batches)
            loop.succeeded()

    def audiences(self) -> set[Visibility]:
        """What those who have live connections may know of."""
        return {subscription.filter.visible_to for subscription in self._subscriptions}

    def end(self, audience: Visibility) -> None:
        """End the subscriptions of those who may no longer know of this."""
        for subscription in tuple(self._subscriptions):
            if subscription.filter.visible_to == audience:
                subscription.close()

    def close(self) -> None:
        """End all subscriptions; may be called from a signal handler."""
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
    """Whether nothing more comes of a file in its present run."""
    return status.status.is_terminal or status.deleted_at is not None

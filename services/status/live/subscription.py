"""What one subscriber has yet to be told, and what tells it: a task, an direct_writer, or a line."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.status.live.cursor import StreamCursor
from services.status.live.filter import Filter
from services.status.live.update import Batch, Batches, Update, adds_to
from services.status.projection.projection import Status
from shared.telemetry import PUSHED

MAX_BATCH = 100
"""States that are told in one go, some 70 kB: what a connection buffers for a client that has
stopped reading, before it counts as one."""

CONFLATE_ABOVE = 500
"""States that wait for one subscriber before those are left out that a later one has overtaken."""

MAX_BACKLOG = 2000
"""States that wait for one subscriber, some 1.5 MB; one that reads no faster is cut off, and gets
the rest when it connects again."""

MAX_DELAY = 10.0
"""Seconds that a state waits for a subscriber that does not read before it is cut off."""


DirectWriter = Callable[[Batch], bool]
"""Writes to a subscriber's connection at once; False if that has to be waited for."""


class DetachedWriter(Protocol):
    """A connection that needs no task to be written to."""

    def write(self, batch: Batch) -> bool:
        """Write at once; False if that has to be waited for."""

    def end(self) -> None:
        """Tell that no more comes, and close."""

    def abort(self) -> None:
        """Close without another word."""


@dataclass(eq=False, slots=True)
class Subscription:
    """The states that one subscriber has yet to be told, oldest first.

    They are told by a task of the subscriber's that waits for them. As long as it sleeps, an direct_writer
    does it in its place: waking a task takes longer than writing. Where there is a line to the
    subscriber, the task goes when all is told that was before.
    """

    filter: Filter
    on_disconnect: Callable[[], object] = lambda: None
    """Called when the subscriber is cut off, to end a send that does not."""
    client: str | None = None
    expiry: asyncio.TimerHandle | None = None
    """Ends the subscription when it is no longer known who subscribed."""
    direct_writer: DirectWriter | None = None
    """Given once all that follows is new, and told alike to all who follow the same."""
    is_live: bool = False
    """Whether all that follows is new."""
    closed: bool = False
    is_disconnected: bool = False
    _backlog: list[Update] = field(default_factory=list)
    _conflate_above: int = CONFLATE_ABOVE
    _waiting_since: float = 0.0
    _wakeup: asyncio.Future[None] | None = None
    """Ends when there is something to do; None while the task is awake."""
    _wants_heartbeat: bool = False
    """Whether a heartbeat is something to do."""
    _writer: DetachedWriter | None = None
    _seen: dict[str, Status] = field(default_factory=dict)
    """Of files whose state was read from a snapshot: what comes next must be newer."""
    _resumed: StreamCursor | None = None
    """What the subscriber knows from another pod, which was ahead of this one."""
    _read: Callable[[], StreamCursor] = dict
    """How far this pod had told before what it tells now."""
    _is_behind: bool = False
    """Whether the subscriber may know more than this pod has told."""

    def deliver(self, updates: tuple[Update, ...], batches: Batches, now: float) -> int:
        """Tell states at once, or leave them to the task and wake it.

        Args:
            now: monotonic seconds.

        Returns:
            How many were told at once.
        """
        if self.direct_writer is not None and (
            self._wakeup is not None or self._writer is not None
        ):
            updates = self._only_newer(updates)
            is_next = not self._backlog and len(updates) <= MAX_BATCH
            if not updates or (is_next and self.direct_writer(batches[updates])):
                return len(updates)
        for update in updates:
            self._enqueue(update, now)
        self._wake()
        if self._writer is not None:
            self.drain(batches.cursor)
        return 0

    @property
    def is_idle(self) -> bool:
        """Whether everything so far was told, and all that follows is new."""
        return self.is_live and not self._backlog and not self.closed

    @property
    def is_detached(self) -> bool:
        """Whether a line tells the subscriber."""
        return self._writer is not None

    def detach(self, writer: DetachedWriter) -> None:
        """Have a line tell an idle subscriber from now on, in place of its task."""
        self._writer = writer
        self.direct_writer = writer.write
        self.on_disconnect = writer.abort

    def drain(self, cursor: str) -> None:
        """Tell what waits as far as the line takes it.

        Args:
            cursor: holds when everything that waits is told.
        """
        while self._backlog and self._writer is not None:
            part, rest = tuple(self._backlog[:MAX_BATCH]), self._backlog[MAX_BATCH:]
            if not self._writer.write(Batch(part, None if rest else cursor)):
                return
            PUSHED.inc(len(part))
            self._backlog = rest

    def resume(self, cursor: StreamCursor, read: Callable[[], StreamCursor]) -> None:
        """Leave out what stands before the cursor.

        Args:
            read: how far this pod had told before what it tells when that is called.
        """
        self._resumed, self._read, self._is_behind = cursor, read, True

    def wants(self, update: Update) -> bool:
        """Whether this is of what is followed, and not known from before the subscriber came."""
        if not self.filter.matches(update.audience):
            return False
        if update.reader is not None and update.reader != self.filter.visible_to.owner:
            return False
        if self._resumed is None:
            return True
        if update.place is None:
            # Progress has no place, and would be a step back if its end is known already.
            return self._has_caught_up(self._resumed)
        return update.place.offset >= self._resumed.get(update.place.partition, 0)

    def _has_caught_up(self, resumed: StreamCursor) -> bool:
        if self._is_behind:
            read = self._read()
            self._is_behind = any(read.get(each, 0) < offset for each, offset in resumed.items())
        return not self._is_behind

    def has_seen(self, status: Status) -> None:
        """Leave out what is not newer than a state that the subscriber is told by other ways."""
        self._seen[status.file_id] = status

    def disconnect(self) -> None:
        """End a subscription whose subscriber cannot be told; a client comes back by itself."""
        self._drop()
        self._wake()

    def close(self) -> None:
        """Tell the subscriber that no more comes."""
        self.closed = True
        self._wake()
        if self._writer is not None:
            self._writer.end()

    def send_heartbeat(self, batches: Batches) -> None:
        """Tell a heartbeat to a stream in which nothing happens."""
        if self._writer is not None:
            self._writer.write(batches[()])
            return
        if self._wakeup is None or not self._wants_heartbeat:
            return
        if self.direct_writer is None or not self.direct_writer(batches[()]):
            self._wake()

    async def wait(self, seconds: float | None = None) -> Sequence[Update]:
        """What has arrived; nothing when closed, after so many seconds, or without at a beat."""
        if not self._backlog and not self.closed:
            self._wakeup = asyncio.get_running_loop().create_future()
            self._wants_heartbeat = seconds is None
            try:
                if seconds is None:
                    await self._wakeup
                else:
                    await asyncio.wait((self._wakeup,), timeout=seconds)
            finally:
                self._wakeup = None
        arrived = self._only_newer(tuple(self._backlog))
        self._backlog.clear()
        self._conflate_above = CONFLATE_ABOVE
        PUSHED.inc(len(arrived))
        return arrived

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
        self._wakeup = None

    def _enqueue(self, update: Update, now: float) -> None:
        """Put a state at the end of the backlog, or cut off a subscriber that does not read."""
        if self.is_disconnected:
            return
        if update.withdraws:
            withdrawn = update.status.file_id
            self._backlog = [each for each in self._backlog if each.status.file_id != withdrawn]
        if not self._backlog:
            self._waiting_since = now
        self._backlog.append(update)
        if len(self._backlog) > self._conflate_above:
            self._conflate()
        if len(self._backlog) > MAX_BACKLOG or now - self._waiting_since > MAX_DELAY:
            self._drop()

    def _only_newer(self, updates: tuple[Update, ...]) -> tuple[Update, ...]:
        """Without what is not newer than a snapshot."""
        if not self._seen:
            return updates
        return tuple(
            update for update in updates if update.withdraws or self._is_newer(update.status)
        )

    def _is_newer(self, status: Status) -> bool:
        known = self._seen.get(status.file_id)
        if known is not None:
            if not adds_to(status, known):
                return False
            del self._seen[status.file_id]
        return True

    def _conflate(self) -> None:
        """Leave out progress that was overtaken; what a file went through stays."""
        latest = {update.status.file_id: update for update in self._backlog}
        self._backlog = [
            update
            for update in self._backlog
            if update.place is not None or latest[update.status.file_id] is update
        ]
        self._conflate_above = max(CONFLATE_ABOVE, 2 * len(self._backlog))

    def _drop(self) -> None:
        self.is_disconnected = self.closed = True
        self._backlog.clear()
        self.on_disconnect()

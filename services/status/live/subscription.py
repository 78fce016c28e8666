"""One subscriber's backlog, written by a task, a direct writer or a detached writer."""

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
"""States in one batch, about 70 kB. A connection buffers this much for a client that has stopped
reading before the client counts as slow."""

CONFLATE_ABOVE = 500
"""States in the backlog above which overtaken progress is dropped."""

MAX_BACKLOG = 2000
"""States that wait for one subscriber, about 1.5 MB. A slower subscriber is disconnected and
receives the rest when it reconnects."""

MAX_DELAY = 10.0
"""Seconds that a state waits for a subscriber that does not read, before it is disconnected."""


DirectWriter = Callable[[Batch], bool]
"""Writes to a subscriber's connection without waiting; returns False if it would block."""


class DetachedWriter(Protocol):
    """A connection that can be written to without a task."""

    def write(self, batch: Batch) -> bool:
        """Write without waiting; return False if the write would block."""

    def end(self) -> None:
        """Send the end of the stream and close the connection."""

    def abort(self) -> None:
        """Close the connection immediately."""


@dataclass(eq=False, slots=True)
class Subscription:
    """The states that wait for one subscriber, oldest first.

    A task of the subscriber waits for states and sends them. While the task sleeps, the direct
    writer sends in its place, because waking a task takes longer than writing. Once a detached
    writer has taken over and the backlog is sent, the task ends.
    """

    filter: Filter
    on_disconnect: Callable[[], object] = lambda: None
    """Called when the subscriber is disconnected, to end a send that blocks."""
    client: str | None = None
    expiry: asyncio.TimerHandle | None = None
    """Timer that ends the subscription when the subscriber's credentials expire."""
    direct_writer: DirectWriter | None = None
    """Set once all further states are new and are the same for all followers of the same files."""
    is_live: bool = False
    """True once all further states are new."""
    closed: bool = False
    is_disconnected: bool = False
    _backlog: list[Update] = field(default_factory=list)
    _conflate_above: int = CONFLATE_ABOVE
    _waiting_since: float = 0.0
    _wakeup: asyncio.Future[None] | None = None
    """Completes when there is something to send; None while the task is awake."""
    _wants_heartbeat: bool = False
    """True if a heartbeat wakes the task."""
    _writer: DetachedWriter | None = None
    _seen: dict[str, Status] = field(default_factory=dict)
    """States that a snapshot contained, by file id. The next state of these files must be newer."""
    _resumed: StreamCursor | None = None
    """Cursor with which the subscriber resumed. Its last pod may have been ahead of this one."""
    _read: Callable[[], StreamCursor] = dict
    """Returns the cursor of this pod before the batch that is being delivered."""
    _is_behind: bool = False
    """True while the subscriber's cursor may be ahead of this pod."""

    def deliver(self, updates: tuple[Update, ...], batches: Batches, now: float) -> int:
        """Send states immediately, or add them to the backlog and wake the task.

        Args:
            updates: the states, in order.
            batches: the batches shared with other subscribers.
            now: monotonic seconds.

        Returns:
            The number of states that were sent immediately.
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
        """True if everything so far was sent and all further states are new."""
        return self.is_live and not self._backlog and not self.closed

    @property
    def is_detached(self) -> bool:
        """True if a detached writer serves the subscriber."""
        return self._writer is not None

    def detach(self, writer: DetachedWriter) -> None:
        """Let a detached writer serve an idle subscriber from now on, in place of its task."""
        self._writer = writer
        self.direct_writer = writer.write
        self.on_disconnect = writer.abort

    def drain(self, cursor: str) -> None:
        """Send the backlog until the detached writer blocks.

        Args:
            cursor: the cursor that is valid once the whole backlog is sent.
        """
        while self._backlog and self._writer is not None:
            part, rest = tuple(self._backlog[:MAX_BATCH]), self._backlog[MAX_BATCH:]
            if not self._writer.write(Batch(part, None if rest else cursor)):
                return
            PUSHED.inc(len(part))
            self._backlog = rest

    def resume(self, cursor: StreamCursor, read: Callable[[], StreamCursor]) -> None:
        """Skip everything before the cursor.

        Args:
            cursor: the subscriber's cursor.
            read: returns the cursor of this pod before the batch that is being delivered.
        """
        self._resumed, self._read, self._is_behind = cursor, read, True

    def wants(self, update: Update) -> bool:
        """Return True if the subscriber follows the file and does not already know this update."""
        if not self.filter.matches(update.audience):
            return False
        if update.reader is not None and update.reader != self.filter.visible_to.owner:
            return False
        if self._resumed is None:
            return True
        if update.place is None:
            # Progress has no position in the log, and would be a step back if its end is already
            # known.
            return self._has_caught_up(self._resumed)
        return update.place.offset >= self._resumed.get(update.place.partition, 0)

    def _has_caught_up(self, resumed: StreamCursor) -> bool:
        if self._is_behind:
            read = self._read()
            self._is_behind = any(read.get(each, 0) < offset for each, offset in resumed.items())
        return not self._is_behind

    def has_seen(self, status: Status) -> None:
        """Skip updates that are not newer than a state that the subscriber already has."""
        self._seen[status.file_id] = status

    def disconnect(self) -> None:
        """End a subscription that cannot be served. The client reconnects by itself."""
        self._drop()
        self._wake()

    def close(self) -> None:
        """End the subscription and signal the end of the stream to the subscriber."""
        self.closed = True
        self._wake()
        if self._writer is not None:
            self._writer.end()

    def send_heartbeat(self, batches: Batches) -> None:
        """Send a heartbeat if the stream is idle."""
        if self._writer is not None:
            self._writer.write(batches[()])
            return
        if self._wakeup is None or not self._wants_heartbeat:
            return
        if self.direct_writer is None or not self.direct_writer(batches[()]):
            self._wake()

    async def wait(self, seconds: float | None = None) -> Sequence[Update]:
        """Wait for states and return them.

        Args:
            seconds: maximum wait; None to wait until the next heartbeat.

        Returns:
            The states that arrived. Empty if the subscription was closed, the wait timed out, or a
                heartbeat is due.
        """
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
        """Append a state to the backlog, or disconnect a subscriber that does not read."""
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
        """Drop states that are not newer than a snapshot."""
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
        """Drop progress that a later state has overtaken; lifecycle states stay."""
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

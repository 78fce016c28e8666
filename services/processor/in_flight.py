"""The records in flight in this pod, from receipt to acknowledgement.

A record waits until it is due and its turn comes (`lanes`). Before an attempt starts, the start is
committed to Kafka. The record is finished once its outcome is acknowledged. A cancel request ends
it at any of these stages.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace

from aiokafka import ConsumerRecord, TopicPartition

from services.processor.commits import Committer
from services.processor.control import CancelRequests
from services.processor.lanes import Lanes, places
from services.processor.offsets import SUSPICIOUS, Begun, PartitionWindow
from services.processor.outcomes import Outcomes
from services.processor.pace import Pace
from services.processor.run import Runner
from services.processor.settings import ProcessorSettings
from services.processor.work import JobEvent, Work, source_of
from shared.events.events import FileRetryScheduled, utc_now
from shared.events.reading import UnreadableEventError
from shared.kafka.consuming import (
    TRIES,
    UNAVAILABLE,
    note_error,
    place_of,
    places_of,
    raise_if_cancelled,
    until_done,
)
from shared.kafka.messaging import PROCESSOR_GROUP, learn_time, read_record
from shared.telemetry import IN_FLIGHT

log = logging.getLogger(__name__)

TIMER_SLACK = 0.05
"""Seconds added to a timer. A timer that fires a millisecond early finds nothing due, and no other
timer follows."""

SUSPECTS_DELAY = 1.0
"""Seconds after a takeover by which the suspects of all partitions should have arrived. Suspects
with fewer pod deaths start first, whatever their order of arrival."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before an operation that must succeed is retried: first and longest delay; doubled each
time."""


@dataclass(eq=False)
class InFlightRecord:
    """A record in flight in this pod."""

    window: PartitionWindow
    partition: TopicPartition
    record: ConsumerRecord
    event: JobEvent | None = None
    owner: str | None = None
    large: bool = False
    suspect: int = 0
    """Number of pods that died while processing it."""
    timer: asyncio.TimerHandle | None = None
    """Fires when the record is due."""
    task: asyncio.Task[None] | None = None
    """The task that currently handles the record."""

    @property
    def offset(self) -> int:
        offset: int = self.record.offset
        return offset

    @property
    def size(self) -> int:
        """Bytes that the record takes in memory, at least."""
        return len(self.record.value or b"")

    @property
    def wait(self) -> float:
        """Seconds until the record is due."""
        if not isinstance(self.event, FileRetryScheduled):
            return 0.0
        return (self.event.data.due_at - utc_now()).total_seconds()


class InFlightRecords:
    """The records in flight in this pod, until they are finished or released."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        runner: Runner,
        outcomes: Outcomes,
        pace: Pace,
        cancels: CancelRequests,
        committer: Committer,
        has_room: Callable[[], bool],
    ) -> None:
        """Create an empty collection.

        Args:
            has_room: returns True if the machine has room for work; otherwise nothing starts.
        """
        self._settings = settings
        self._runner = runner
        self._pace = pace
        self._outcomes = outcomes
        self._cancels = cancels
        self._committer = committer
        self._has_room = has_room
        self._lanes = Lanes[InFlightRecord](
            large_limit=settings.workers, owner_limit=settings.owner_limit
        )
        self._entries: dict[tuple[TopicPartition, int], InFlightRecord] = {}
        self._of_file: dict[str, set[InFlightRecord]] = {}
        self._suspicious: set[tuple[TopicPartition, int]] = set()
        """Records on which pods died more than once, including finished ones."""
        self._suspects_from = 0.0
        """Event loop time from which suspects may start."""
        self._beginnings: set[asyncio.Task[None]] = set()
        self._is_start_scheduled = False
        """True if a call of `begin_waiting` is already scheduled."""
        self._draining = False
        self.bytes_in_flight = 0

    def add_partitions(self, windows: Mapping[TopicPartition, PartitionWindow]) -> None:
        """Load the ledgers of partitions assigned to this pod, before their records arrive."""
        begun = [
            (partition, offset, begun.deaths)
            for partition, window in windows.items()
            for offset, begun in window.begun.items()
        ]
        self._suspicious |= {(where, at) for where, at, deaths in begun if deaths >= SUSPICIOUS}
        if any(deaths for _, _, deaths in begun):
            loop = asyncio.get_running_loop()
            self._suspects_from = loop.time() + SUSPECTS_DELAY
            loop.call_later(SUSPECTS_DELAY + TIMER_SLACK, self.begin_waiting)

    def accept(
        self, window: PartitionWindow, partition: TopicPartition, record: ConsumerRecord
    ) -> None:
        """Accept a record; `begin_waiting` starts it."""
        if not window.accept(record.offset):
            self._committer.changed(partition)
            return
        learn_time(record)
        entry = InFlightRecord(window, partition, record)
        self._entries[partition, record.offset] = entry
        self.bytes_in_flight += entry.size
        IN_FLIGHT.set(len(self._entries))
        try:
            logged = read_record(record)
        except UnreadableEventError as error:
            self._start_task(entry, self._outcomes.unreadable, record, error)
            return
        if logged is None or not isinstance(logged.event, JobEvent):
            self._finish(entry)  # A tombstone, or an unknown event of a newer version.
            return
        try:
            self._receive(entry, logged.event)
        except Exception as error:  # One record must not stop this pod and then the next owner.
            note_error(PROCESSOR_GROUP, error, place_of(record))
            self._start_task(entry, self._outcomes.unprocessable, record, error)

    def _receive(self, entry: InFlightRecord, event: JobEvent) -> None:
        of_file = self._of_file.setdefault(event.file_id, set())
        if any(other.event is not None and other.event.id == event.id for other in of_file):
            self._finish(entry)  # A duplicate, by its event id, of a record in flight.
            return
        entry.event = event
        entry.large = source_of(event).size >= self._settings.large_file
        entry.owner = None if isinstance(event, FileRetryScheduled) else event.data.owner
        entry.suspect = entry.window.begun.get(entry.offset, Begun()).deaths
        of_file.add(entry)
        if (request := self._cancels.of(event.file_id, event.data.run)) is not None:
            self._start_task(entry, self._cancel, entry, request.reason)
        elif (wait := entry.wait) > 0:
            entry.timer = asyncio.get_running_loop().call_later(wait, self._wake, entry)
        else:
            self._lanes.add(entry)

    def _wake(self, entry: InFlightRecord) -> None:
        entry.timer = None
        self._lanes.add(entry)
        self.begin_waiting()

    @property
    def waiting(self) -> int:
        """Number of records that could start if a slot were free."""
        return len(self._lanes)

    def begin_waiting(self) -> None:
        """Start as many waiting records as there are free slots."""
        self._is_start_scheduled = False
        if self._draining or not self._lanes or not self._has_room():
            return
        room = places(
            self._settings.workers,
            work=self._pace.work.seconds,
            overhead=self._pace.overhead,
        )
        begun: list[tuple[InFlightRecord, Begun]] = []
        suspects = asyncio.get_running_loop().time() >= self._suspects_from
        while (entry := self._lanes.begin(room, suspects=suspects)) is not None:
            begun.append((entry, entry.window.begin(entry.offset)))
        if begun:
            beginning = asyncio.create_task(self._begin(begun))
            self._beginnings.add(beginning)
            beginning.add_done_callback(self._beginnings.discard)

    async def _begin(self, begun: list[tuple[InFlightRecord, Begun]]) -> None:
        """Attempt each record once its start is committed, so that no interruption is missed."""
        with self._pace.commit.measure():
            await until_done(
                lambda: self._committer.written({entry.partition for entry, _ in begun}),
                consumer=PROCESSOR_GROUP,
                where=lambda: places_of([entry.record for entry, _ in begun]),
            )
        for entry, before in begun:
            # Meanwhile it may have been released or cancelled.
            if self._entries.get((entry.partition, entry.offset)) is entry and entry.task is None:
                self._start_task(entry, self._attempt, entry, before)

    async def _attempt(self, entry: InFlightRecord, before: Begun) -> None:
        work = self._work_of(entry, before)
        exhausted = work.attempt > work.max_attempts
        if before.interrupted or exhausted:
            tried = work.attempt - 1
            lost = replace(work, attempt=tried, max_attempts=max(work.max_attempts, tried))
            await self._outcomes.interrupted(lost)
        if exhausted:
            return
        await self._runner.make_attempt(work)

    def _work_of(self, entry: InFlightRecord, before: Begun) -> Work:
        assert entry.event is not None  # noqa: S101 - `_receive` set it
        many = bool(self._suspicious - {(entry.partition, entry.offset)})
        return self._runner.work_of(entry.event, entry.record, before, many_suspects=many)

    def cancel(self, file_id: str) -> None:
        """Cancel the work on a file, if it is in flight here and a request applies."""
        for entry in self._of_file.get(file_id, ()):
            assert entry.event is not None  # noqa: S101 - `_receive` set it
            if (request := self._cancels.of(file_id, entry.event.data.run)) is not None:
                self._lanes.discard(entry)
                if entry.timer is not None:
                    entry.timer.cancel()
                if entry.task is not None:
                    entry.task.cancel()
                self._start_task(entry, self._cancel, entry, request.reason, entry.task)

    async def _cancel(
        self, entry: InFlightRecord, reason: str, former: asyncio.Task[None] | None = None
    ) -> None:
        if former is not None:
            await asyncio.wait({former})  # This also waits until its worker is killed.
        assert entry.event is not None  # noqa: S101 - `_receive` set it
        begun = entry.window.begun.get(entry.offset, Begun())
        # Report the attempt that was stopped, or the one that will not be made.
        attempts_before = begun._replace(attempts=max(begun.attempts - 1, 0))
        await self._outcomes.cancelled(self._work_of(entry, attempts_before), reason)

    async def finish_running(self, grace: float) -> None:
        """Start nothing more, and wait at most `grace` seconds for running work."""
        self._draining = True
        await cancelled(self._beginnings)
        tasks = {entry.task for entry in self._entries.values() if entry.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Stop everything on these partitions; another pod resumes them."""
        lost = [entry for entry in self._entries.values() if entry.partition in partitions]
        for entry in lost:
            self._forget(entry)
            if entry.timer is not None:
                entry.timer.cancel()
        await cancelled({entry.task for entry in lost if entry.task is not None})

    def _start_task(
        self, entry: InFlightRecord, act: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Run `act` in the background, then finish the record."""
        entry.task = asyncio.create_task(self._run_to_end(entry, act, *arguments))

    async def _run_to_end(
        self, entry: InFlightRecord, act: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        delay, failures = FIRST_DELAY, 0
        while True:
            try:
                await act(*arguments)
                break
            except UNAVAILABLE as error:
                where = place_of(entry.record)
                log.warning("record %s: %r; retrying in %.0f s", where, error, delay)
            except (Exception, asyncio.CancelledError) as error:
                raise_if_cancelled()
                note_error(PROCESSOR_GROUP, error, place_of(entry.record))
                failures += 1
                if failures >= TRIES:
                    act, arguments = self._give_up, (entry, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        self._finish(entry)
        if not self._is_start_scheduled:  # Kafka acknowledges in batches: many slots free up.
            self._is_start_scheduled = True
            asyncio.get_running_loop().call_soon(self.begin_waiting)

    async def _give_up(self, entry: InFlightRecord, error: BaseException) -> None:
        """Fail the file of a record that this pod repeatedly cannot handle; dead-letter it."""
        if entry.event is not None:
            begun = entry.window.begun.get(entry.offset, Begun())
            try:
                work = self._work_of(entry, begun._replace(attempts=max(begun.attempts - 1, 0)))
                await self._outcomes.failed_permanently(work, error)
            except UNAVAILABLE:
                raise
            except Exception as again:  # The failure cannot be published; the dead letter remains.
                note_error(PROCESSOR_GROUP, again, place_of(entry.record))
        await self._outcomes.unprocessable(entry.record, error)

    def _finish(self, entry: InFlightRecord) -> None:
        entry.window.finish(entry.offset)
        self._forget(entry)
        self._committer.changed(entry.partition)

    def _forget(self, entry: InFlightRecord) -> None:
        if self._entries.pop((entry.partition, entry.offset), None) is None:
            return
        self.bytes_in_flight -= entry.size
        IN_FLIGHT.set(len(self._entries))
        self._lanes.discard(entry)
        if entry.event is not None:
            of_file = self._of_file[entry.event.file_id]
            of_file.discard(entry)
            if not of_file:
                del self._of_file[entry.event.file_id]


async def cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

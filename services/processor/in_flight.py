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

ALL_HERE_AFTER = 1.0
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
        self._taken: dict[tuple[TopicPartition, int], InFlightRecord] = {}
        self._of_file: dict[str, set[InFlightRecord]] = {}
        self._suspicious: set[tuple[TopicPartition, int]] = set()
        """Records on which pods died more than once, including finished ones."""
        self._suspects_from = 0.0
        """Event loop time from which suspects may start."""
        self._beginnings: set[asyncio.Task[None]] = set()
        self._is_called = False
        """True if a call of `begin_waiting` is already scheduled."""
        self._draining = False
        self.bytes_in_hand = 0

    def take_over(self, windows: Mapping[TopicPartition, PartitionWindow]) -> None:
        """Load the ledgers of partitions assigned to this pod, before their records arrive."""
        begun = [
            (partition, offset, begun.deaths)
            for partition, window in windows.items()
            for offset, begun in window.begun.items()
        ]
        self._suspicious |= {(where, at) for where, at, deaths in begun if deaths >= SUSPICIOUS}
        if any(deaths for _, _, deaths in begun):
            loop = asyncio.get_running_loop()
            self._suspects_from = loop.time() + ALL_HERE_AFTER
            loop.call_later(ALL_HERE_AFTER + TIMER_SLACK, self.begin_waiting)

    def take(
        self, window: PartitionWindow, partition: TopicPartition, record: ConsumerRecord
    ) -> None:
        """Accept a record; `begin_waiting` starts it."""
        if not window.take(record.offset):
            self._committer.changed(partition)
            return
        learn_time(record)
        taken = InFlightRecord(window, partition, record)
        self._taken[partition, record.offset] = taken
        self.bytes_in_hand += taken.size
        IN_FLIGHT.set(len(self._taken))
        try:
            logged = read_record(record)
        except UnreadableEventError as error:
            self._do(taken, self._outcomes.unreadable, record, error)
            return
        if logged is None or not isinstance(logged.event, JobEvent):
            self._finish(taken)  # A tombstone, or an unknown event of a newer version.
            return
        try:
            self._receive(taken, logged.event)
        except Exception as error:  # One record must not stop this pod and then the next owner.
            note_error(PROCESSOR_GROUP, error, place_of(record))
            self._do(taken, self._outcomes.unprocessable, record, error)

    def _receive(self, taken: InFlightRecord, event: JobEvent) -> None:
        of_file = self._of_file.setdefault(event.file_id, set())
        if any(other.event is not None and other.event.id == event.id for other in of_file):
            self._finish(taken)  # A duplicate, by its event id, of a record in flight.
            return
        taken.event = event
        taken.large = source_of(event).size >= self._settings.large_file
        taken.owner = None if isinstance(event, FileRetryScheduled) else event.data.owner
        taken.suspect = taken.window.begun.get(taken.offset, Begun()).deaths
        of_file.add(taken)
        if (request := self._cancels.of(event.file_id, event.data.run)) is not None:
            self._do(taken, self._cancel, taken, request.reason)
        elif (wait := taken.wait) > 0:
            taken.timer = asyncio.get_running_loop().call_later(wait, self._wake, taken)
        else:
            self._lanes.add(taken)

    def _wake(self, taken: InFlightRecord) -> None:
        taken.timer = None
        self._lanes.add(taken)
        self.begin_waiting()

    @property
    def waiting(self) -> int:
        """Number of records that could start if a slot were free."""
        return len(self._lanes)

    def begin_waiting(self) -> None:
        """Start as many waiting records as there are free slots."""
        self._is_called = False
        if self._draining or not self._lanes or not self._has_room():
            return
        room = places(
            self._settings.workers,
            work=self._pace.work.seconds,
            overhead=self._pace.overhead,
        )
        begun: list[tuple[InFlightRecord, Begun]] = []
        suspects = asyncio.get_running_loop().time() >= self._suspects_from
        while (taken := self._lanes.begin(room, suspects=suspects)) is not None:
            begun.append((taken, taken.window.begin(taken.offset)))
        if begun:
            beginning = asyncio.create_task(self._begin(begun))
            self._beginnings.add(beginning)
            beginning.add_done_callback(self._beginnings.discard)

    async def _begin(self, begun: list[tuple[InFlightRecord, Begun]]) -> None:
        """Attempt each record once its start is committed, so that no interruption is missed."""
        with self._pace.commit.measure():
            await until_done(
                lambda: self._committer.written({taken.partition for taken, _ in begun}),
                consumer=PROCESSOR_GROUP,
                where=lambda: places_of([taken.record for taken, _ in begun]),
            )
        for taken, before in begun:
            # Meanwhile it may have been released or cancelled.
            if self._taken.get((taken.partition, taken.offset)) is taken and taken.task is None:
                self._do(taken, self._attempt, taken, before)

    async def _attempt(self, taken: InFlightRecord, before: Begun) -> None:
        work = self._work_of(taken, before)
        given_up = work.attempt > work.max_attempts
        if before.cut_off or given_up:
            tried = work.attempt - 1
            lost = replace(work, attempt=tried, max_attempts=max(work.max_attempts, tried))
            await self._outcomes.cut_off(lost)
        if given_up:
            return
        await self._runner.make_attempt(work)

    def _work_of(self, taken: InFlightRecord, before: Begun) -> Work:
        assert taken.event is not None  # noqa: S101 - `_receive` set it
        many = bool(self._suspicious - {(taken.partition, taken.offset)})
        return self._runner.work_of(taken.event, taken.record, before, many_suspects=many)

    def cancel(self, file_id: str) -> None:
        """Cancel the work on a file, if it is in flight here and a request applies."""
        for taken in self._of_file.get(file_id, ()):
            assert taken.event is not None  # noqa: S101 - `_receive` set it
            if (request := self._cancels.of(file_id, taken.event.data.run)) is not None:
                self._lanes.discard(taken)
                if taken.timer is not None:
                    taken.timer.cancel()
                if taken.task is not None:
                    taken.task.cancel()
                self._do(taken, self._cancel, taken, request.reason, taken.task)

    async def _cancel(
        self, taken: InFlightRecord, reason: str, former: asyncio.Task[None] | None = None
    ) -> None:
        if former is not None:
            await asyncio.wait({former})  # This also waits until its worker is killed.
        assert taken.event is not None  # noqa: S101 - `_receive` set it
        begun = taken.window.begun.get(taken.offset, Begun())
        # Report the attempt that was stopped, or the one that will not be made.
        attempts_before = begun._replace(attempts=max(begun.attempts - 1, 0))
        await self._outcomes.cancelled(self._work_of(taken, attempts_before), reason)

    async def finish_running(self, grace: float) -> None:
        """Start nothing more, and wait at most `grace` seconds for running work."""
        self._draining = True
        await cancelled(self._beginnings)
        tasks = {taken.task for taken in self._taken.values() if taken.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def give_back(self, partitions: Collection[TopicPartition]) -> None:
        """Stop everything on these partitions; another pod resumes them."""
        lost = [taken for taken in self._taken.values() if taken.partition in partitions]
        for taken in lost:
            self._forget(taken)
            if taken.timer is not None:
                taken.timer.cancel()
        await cancelled({taken.task for taken in lost if taken.task is not None})

    def _do(
        self, taken: InFlightRecord, act: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Run `act` in the background, then finish the record."""
        taken.task = asyncio.create_task(self._see_through(taken, act, *arguments))

    async def _see_through(
        self, taken: InFlightRecord, act: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        delay, failures = FIRST_DELAY, 0
        while True:
            try:
                await act(*arguments)
                break
            except UNAVAILABLE as error:
                where = place_of(taken.record)
                log.warning("record %s: %r; retrying in %.0f s", where, error, delay)
            except (Exception, asyncio.CancelledError) as error:
                raise_if_cancelled()
                note_error(PROCESSOR_GROUP, error, place_of(taken.record))
                failures += 1
                if failures >= TRIES:
                    act, arguments = self._give_up, (taken, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        self._finish(taken)
        if not self._is_called:  # Kafka acknowledges in batches, which free many slots at once.
            self._is_called = True
            asyncio.get_running_loop().call_soon(self.begin_waiting)

    async def _give_up(self, taken: InFlightRecord, error: BaseException) -> None:
        """Fail the file of a record that this pod repeatedly cannot handle; dead-letter it."""
        if taken.event is not None:
            begun = taken.window.begun.get(taken.offset, Begun())
            try:
                work = self._work_of(taken, begun._replace(attempts=max(begun.attempts - 1, 0)))
                await self._outcomes.failed_for_good(work, error)
            except UNAVAILABLE:
                raise
            except Exception as again:  # The failure cannot be published; the dead letter remains.
                note_error(PROCESSOR_GROUP, again, place_of(taken.record))
        await self._outcomes.unprocessable(taken.record, error)

    def _finish(self, taken: InFlightRecord) -> None:
        taken.window.finish(taken.offset)
        self._forget(taken)
        self._committer.changed(taken.partition)

    def _forget(self, taken: InFlightRecord) -> None:
        if self._taken.pop((taken.partition, taken.offset), None) is None:
            return
        self.bytes_in_hand -= taken.size
        IN_FLIGHT.set(len(self._taken))
        self._lanes.discard(taken)
        if taken.event is not None:
            of_file = self._of_file[taken.event.file_id]
            of_file.discard(taken)
            if not of_file:
                del self._of_file[taken.event.file_id]


async def cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

"""The desk: what becomes of each record that this pod has in its hands.

A record waits until it is due and until it is its turn (`lanes`); it is begun, which Kafka is told
before anything else happens; an attempt is made at it; and it is finished once its outcome is
acknowledged. A wish to cancel ends it wherever it stands on this way.
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
"""Seconds by which a timer is set late: one that fires a millisecond early would find nothing due,
and none comes after it."""

ALL_HERE_AFTER = 1.0
"""Seconds after a takeover in which the suspects of all partitions should be here: those over whom
fewer pods died go first, whichever come first."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
"""Seconds before something that must not fail is tried again; doubled each time."""


@dataclass(eq=False)
class InFlightRecord:
    """A record in this pod's hands."""

    window: PartitionWindow
    partition: TopicPartition
    record: ConsumerRecord
    event: JobEvent | None = None
    owner: str | None = None
    large: bool = False
    suspect: int = 0
    """How often a pod died while it worked on it."""
    timer: asyncio.TimerHandle | None = None
    """Wakes a record that is not due yet."""
    task: asyncio.Task[None] | None = None
    """Does what is to be done with it now."""

    @property
    def offset(self) -> int:
        offset: int = self.record.offset
        return offset

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, at least."""
        return len(self.record.value or b"")

    @property
    def wait(self) -> float:
        """Seconds until it is due."""
        if not isinstance(self.event, FileRetryScheduled):
            return 0.0
        return (self.event.data.due_at - utc_now()).total_seconds()


class InFlightRecords:
    """The records in this pod's hands, from being taken to being finished or given back."""

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
        """Args:
        has_room: tells whether the machine has room for work; if not, nothing is begun.
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
        """Records over which pods died more than once, also those that are finished by now."""
        self._suspects_from = 0.0
        """Time of the loop at which suspects may be begun."""
        self._beginnings: set[asyncio.Task[None]] = set()
        self._is_called = False
        """Whether `begin_waiting` will be called before anything else happens."""
        self._draining = False
        self.bytes_in_hand = 0

    def take_over(self, windows: Mapping[TopicPartition, PartitionWindow]) -> None:
        """Take note of what is known of partitions whose records will come."""
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
        """Take a record in; `begin_waiting` begins it."""
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
            self._finish(taken)  # A tombstone, or a newer version's event that we know nothing of.
            return
        try:
            self._receive(taken, logged.event)
        except Exception as error:  # One record must not end the pod, and the next one after it.
            note_error(PROCESSOR_GROUP, error, place_of(record))
            self._do(taken, self._outcomes.unprocessable, record, error)

    def _receive(self, taken: InFlightRecord, event: JobEvent) -> None:
        of_file = self._of_file.setdefault(event.file_id, set())
        if any(other.event is not None and other.event.id == event.id for other in of_file):
            self._finish(taken)  # A repeat of what is in hand already, as its id tells.
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
        """How many records could be begun if there were room."""
        return len(self._lanes)

    def begin_waiting(self) -> None:
        """Begin as many of the waiting records as there is room for."""
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
        """Make an attempt at each, once Kafka knows: so that none can be cut off unnoticed."""
        with self._pace.commit.measure():
            await until_done(
                lambda: self._committer.written({taken.partition for taken, _ in begun}),
                consumer=PROCESSOR_GROUP,
                where=lambda: places_of([taken.record for taken, _ in begun]),
            )
        for taken, before in begun:
            # Meanwhile it may have been given back, or somebody may have cancelled it.
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
        """Stop the work on a file, if it is in this pod's hands and a request says so."""
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
            await asyncio.wait({former})  # Its worker is killed by then.
        assert taken.event is not None  # noqa: S101 - `_receive` set it
        begun = taken.window.begun.get(taken.offset, Begun())
        # The number of the attempt that was stopped, or of the one that will not be made.
        attempts_before = begun._replace(attempts=max(begun.attempts - 1, 0))
        await self._outcomes.cancelled(self._work_of(taken, attempts_before), reason)

    async def finish_running(self, grace: float) -> None:
        """Begin nothing any more; wait for what is being done, at most `grace` seconds."""
        self._draining = True
        await cancelled(self._beginnings)
        tasks = {taken.task for taken in self._taken.values() if taken.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    async def give_back(self, partitions: Collection[TopicPartition]) -> None:
        """Stop all that concerns these partitions; another pod goes on with them."""
        lost = [taken for taken in self._taken.values() if taken.partition in partitions]
        for taken in lost:
            self._forget(taken)
            if taken.timer is not None:
                taken.timer.cancel()
        await cancelled({taken.task for taken in lost if taken.task is not None})

    def _do(
        self, taken: InFlightRecord, act: Callable[..., Awaitable[None]], *arguments: object
    ) -> None:
        """Have `act` done in the background, then finish the record."""
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
                log.warning("record %s: %r; trying again in %.0f s", where, error, delay)
            except (Exception, asyncio.CancelledError) as error:
                raise_if_cancelled()
                note_error(PROCESSOR_GROUP, error, place_of(taken.record))
                failures += 1
                if failures >= TRIES:
                    act, arguments = self._give_up, (taken, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        self._finish(taken)
        if not self._is_called:  # Kafka acknowledges many at a time, whose places are free now.
            self._is_called = True
            asyncio.get_running_loop().call_soon(self.begin_waiting)

    async def _give_up(self, taken: InFlightRecord, error: BaseException) -> None:
        """Fail the file of a record on which this pod fails again and again; dead-letter it."""
        if taken.event is not None:
            begun = taken.window.begun.get(taken.offset, Begun())
            try:
                work = self._work_of(taken, begun._replace(attempts=max(begun.attempts - 1, 0)))
                await self._outcomes.failed_for_good(work, error)
            except UNAVAILABLE:
                raise
            except Exception as again:  # Its end cannot be told either; the letter remains.
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
    """Cancel tasks and wait until they are over."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)

"""The processor's consumer: takes records in, has each worked on, commits what is finished.

At least once: group `processor`, from the earliest offset; an offset is committed only after Kafka
has acknowledged the outcome of every record below it. Records of one partition are worked on side
by side, so a long file holds up no other; see `offsets` for what is committed in the meantime.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from services.processor.offsets import PartitionWindow
from services.processor.run import SOURCE, Runner, work_of
from services.processor.settings import ProcessorSettings
from shared.errors import KafkaUnavailableError
from shared.events import (
    Failure,
    FileRequeued,
    FileRetryScheduled,
    FileUploaded,
    UnreadableEventError,
    utc_now,
)
from shared.messaging import (
    KAFKA_RETRY_DELAY,
    SESSION_TIMEOUT_MS,
    Publisher,
    admin_client,
    dead_letter,
    group_name,
    read_record,
    topic_names,
)
from shared.telemetry import IN_FLIGHT, UNREADABLE
from shared.topics import WORK_TOPICS

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS = 500
"""How long a poll waits for records; it bounds how late a window that has room again is noticed."""

REVOKE_COMMIT_TIMEOUT = 2.0
"""Seconds for the last commit before a rebalance; the group waits for us meanwhile."""


class WorkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Takes records from the work topics and makes an attempt at each."""

    def __init__(
        self, *, settings: ProcessorSettings, runner: Runner, publisher: Publisher
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._publisher = publisher
        self._consumer: AIOKafkaConsumer | None = None
        self._windows: dict[TopicPartition, PartitionWindow] = {}
        self._tasks: dict[tuple[TopicPartition, int], asyncio.Task[None]] = {}
        # One slot a worker, so that a file counts as begun only when a worker takes it.
        self._slots = asyncio.Semaphore(settings.workers)
        self._dirty: set[TopicPartition] = set()
        self._commit_wanted = asyncio.Event()
        self._commit_waiters: list[asyncio.Future[None]] = []
        self._settled = asyncio.Event()
        self._draining = False

    @property
    def ready(self) -> bool:
        """Whether the group has given this pod its share, which may be no partition at all."""
        return self._settled.is_set()

    @property
    def partitions(self) -> int:
        """How many partitions this pod has."""
        return len(self._windows)

    async def run(self) -> None:
        """Take records and work on them until `drain` is called.

        Raises:
            KafkaError: Kafka said something that waiting does not mend.
        """
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka.split(","),
            client_id=f"processor-{self._settings.pod}",
            group_id=group_name(self._settings, "processor"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 3,
        )
        self._consumer.subscribe(topic_names(self._settings, WORK_TOPICS), listener=self)
        await self._consumer.start()
        async with asyncio.TaskGroup() as group:
            committer = group.create_task(self._commit_forever())
            await self._poll_until_drained()
            committer.cancel()

    def begin_drain(self) -> None:
        """Take no more records; may be called from a signal handler."""
        self._draining = True

    async def drain(self, grace: float) -> None:
        """Finish what ends within `grace` seconds, give back the rest, leave the group."""
        self.begin_drain()
        running = {task for key, task in self._tasks.items() if self._is_running(*key)}
        if running:
            await asyncio.wait(running, timeout=grace)
        await self._cancel(list(self._tasks))
        if self._consumer is not None:
            await self._commit_returning()
            await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """A rebalance begins: note that running work is given back, in case it is.

        The work goes on, since most partitions come back to the pod that had them.
        """
        self._settled.clear()
        if revoked:
            await self._commit_returning()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """A rebalance is over: stop the work on what was lost, take up what is new."""
        lost = self._windows.keys() - set(assigned)
        await self._cancel([key for key in self._tasks if key[0] in lost])
        for partition in lost:
            del self._windows[partition]
        # Those kept were written as given back; the next commit takes that back.
        for partition in self._windows:
            self._mark_dirty(partition)
        self._windows |= await self._restore(set(assigned) - self._windows.keys())
        log.info("working on %d partitions, lost %d", len(self._windows), len(lost))
        self._settled.set()

    async def _restore(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, PartitionWindow]:
        """The windows that the former owners of these partitions left."""
        while partitions:
            try:
                async with admin_client(self._settings) as admin:
                    committed = await admin.list_consumer_group_offsets(
                        group_name(self._settings, "processor"), partitions=list(partitions)
                    )
                return {
                    partition: PartitionWindow.restore(max(found.offset, 0), found.metadata)
                    for partition, found in committed.items()
                }
            except (KafkaError, OSError) as error:
                log.warning("cannot read the ledgers of %d partitions: %r", len(partitions), error)
                await asyncio.sleep(KAFKA_RETRY_DELAY)
        return {}

    async def _poll_until_drained(self) -> None:
        assert self._consumer is not None  # noqa: S101 - run() set it
        while not self._draining:
            room = self._make_room(self._consumer)
            batches = await self._consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=room)
            await self._settled.wait()
            for partition, records in batches.items():
                for record in records:
                    self._take(partition, record)

    def _make_room(self, consumer: AIOKafkaConsumer) -> int:
        """Pause the partitions whose windows are nearly full; returns how many records may come."""
        enough = max(1, self._settings.window // 4)
        rooms = {
            partition: self._settings.window - len(window.in_flight)
            for partition, window in self._windows.items()
            if partition in consumer.assignment()
        }
        full = [partition for partition, room in rooms.items() if room < enough]
        consumer.resume(*rooms.keys() - set(full))
        consumer.pause(*full)
        return min((room for room in rooms.values() if room >= enough), default=enough)

    def _take(self, partition: TopicPartition, record: ConsumerRecord) -> None:
        window = self._windows.get(partition)
        if window is None:
            return  # It was lost while the poll was under way; its new owner sees this record.
        if window.take(record.offset):
            key = (partition, record.offset)
            self._tasks[key] = asyncio.create_task(self._handle(partition, window, record))
            self._tasks[key].add_done_callback(lambda _: self._tasks.pop(key, None))
            IN_FLIGHT.set(len(self._tasks))
        else:
            self._mark_dirty(partition)

    async def _handle(
        self, partition: TopicPartition, window: PartitionWindow, record: ConsumerRecord
    ) -> None:
        """See to one record until its outcome is acknowledged."""
        delay = 1.0
        while True:
            try:
                await self._process(partition, window, record)
                break
            except KafkaUnavailableError as error:
                log.warning("%s; trying again in %.0f s", error, delay)
            except Exception:
                log.exception(
                    "record %s:%d; trying again in %.0f s", partition, record.offset, delay
                )
            await asyncio.sleep(delay)
            delay = min(delay * 2, 30.0)
        window.finish(record.offset)
        self._mark_dirty(partition)

    async def _process(
        self, partition: TopicPartition, window: PartitionWindow, record: ConsumerRecord
    ) -> None:
        try:
            logged = read_record(record)
        except UnreadableEventError as error:
            log.warning("unreadable record %s:%d: %s", partition, record.offset, error)
            UNREADABLE.inc()
            await self._publisher.publish(dead_letter(record, str(error), source=SOURCE))
            return
        match logged and logged.event:
            case FileRetryScheduled() as event:
                await asyncio.sleep((event.data.due_at - utc_now()).total_seconds())
            case FileUploaded() | FileRequeued() as event:
                pass
            case _:
                return  # A tombstone, or a newer version's event that asks for no work we know.
        async with self._slots:
            await self._attempt(partition, window, record.offset, event)

    async def _attempt(
        self,
        partition: TopicPartition,
        window: PartitionWindow,
        offset: int,
        event: FileUploaded | FileRequeued | FileRetryScheduled,
    ) -> None:
        work = work_of(event, max_attempts=self._settings.max_attempts)
        begun = window.begun.get(offset)
        if begun is not None:
            work = replace(
                work,
                attempt=work.attempt + begun.attempts,
                max_attempts=work.max_attempts + begun.returned,
            )
        if work.attempt > work.max_attempts:
            last = replace(work, attempt=work.attempt - 1)
            await self._runner.fail_attempt(last, POD_CRASHED)
            return
        window.begin(offset)
        await self._ledger_written(partition)
        await self._runner.make_attempt(work)

    def _is_running(self, partition: TopicPartition, offset: int) -> bool:
        window = self._windows.get(partition)
        return window is not None and offset in window.running

    async def _cancel(self, keys: list[tuple[TopicPartition, int]]) -> None:
        tasks = [self._tasks[key] for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _mark_dirty(self, partition: TopicPartition) -> None:
        self._dirty.add(partition)
        self._commit_wanted.set()

    async def _ledger_written(self, partition: TopicPartition) -> None:
        """Wait until Kafka knows what is begun, so that no attempt can be cut off unnoticed."""
        waiter = asyncio.get_running_loop().create_future()
        self._commit_waiters.append(waiter)
        self._mark_dirty(partition)
        await waiter

    async def _commit_forever(self) -> None:
        """Commit whenever something changed; what changes during a commit goes into the next."""
        while True:
            await self._commit_wanted.wait()
            await self._settled.wait()
            self._commit_wanted.clear()
            partitions, self._dirty = self._dirty, set()
            waiters, self._commit_waiters = self._commit_waiters, []
            try:
                await self._commit(partitions, returning=False)
            except (CommitFailedError, IllegalStateError, KafkaError, OSError) as error:
                # A rebalance, or Kafka is away: what is still ours then is committed then.
                log.info("commit put off: %r", error)
                self._dirty |= partitions
                self._commit_waiters += waiters
                self._commit_wanted.set()
                await asyncio.sleep(KAFKA_RETRY_DELAY)
                continue
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _commit(self, partitions: Collection[TopicPartition], *, returning: bool) -> None:
        assert self._consumer is not None  # noqa: S101 - run() set it
        offsets = {
            partition: (window.watermark, window.ledger(returning=returning))
            for partition in partitions
            if (window := self._windows.get(partition)) is not None
        }
        if offsets:
            await self._consumer.commit(offsets)

    async def _commit_returning(self) -> None:
        """The last commit of partitions that may go to another pod."""
        try:
            async with asyncio.timeout(REVOKE_COMMIT_TIMEOUT):
                await self._commit(list(self._windows), returning=True)
        except (TimeoutError, CommitFailedError, IllegalStateError, KafkaError, OSError) as error:
            log.warning("cannot commit before the rebalance: %r", error)


POD_CRASHED = Failure(
    code="worker_crashed",
    message="The processor died each time it worked on this file.",
    retryable=True,
)

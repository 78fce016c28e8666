"""The processor's consumer: fetches records, has them processed, and commits finished offsets.

At least once: group `processor`, from the earliest offset. An offset is committed only after Kafka
has acknowledged the outcome of every record below it. Records of one partition are processed
concurrently, so a long file does not block the others. `offsets` explains what is committed in the
meantime, `in_flight` the life of a record.
"""

import asyncio
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence

from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError

from services.processor.commits import COMMIT_ERRORS, Committer, set_within
from services.processor.control import CancelRequests
from services.processor.in_flight import InFlightRecords, cancelled
from services.processor.offsets import PartitionWindow
from services.processor.outcomes import Outcomes
from services.processor.pace import Pace
from services.processor.run import Runner
from services.processor.settings import ProcessorSettings
from services.processor.space import ScratchSpace
from shared import deadlines
from shared.background.supervision import OUTAGES, RunningLoop
from shared.deadlines import joins_group, kafka_answers
from shared.events.topics import WORK_TOPICS
from shared.kafka.connection import (
    KAFKA_RETRY_DELAY,
    Answers,
    admin_client,
    close_consumer,
    kafka_options,
)
from shared.kafka.messaging import (
    PROCESSOR_GROUP,
    SESSION_TIMEOUT_MS,
    KafkaRecord,
    group_name,
    topic_names,
)

log = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two heartbeats to the supervisor while idle."""

HEARTBEAT_MS = 300
"""Milliseconds between heartbeats. A pod notices a rebalance this late; all pods wait for it."""

MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000
"""Milliseconds a pod may go without polling and stay in the group. A pod at capacity does not poll,
and a full disk or long files can keep it there. aiokafka's default is five minutes."""

POLL_TIMEOUT_MS = 500
"""Milliseconds a poll waits for records."""

FULL_POLL_TIMEOUT_MS = 20
"""The same while a window is full. Short jobs free a slot within milliseconds."""

MAX_PARTITION_FETCH = 256 << 10
"""Bytes fetched from a partition at a time: some 400 records, or one larger record. The same amount
may be buffered for each partition whose window is full."""

PAUSE = 0.002
"""Seconds between two polls that returned records, so that consecutive records are batched."""

WORK_ENOUGH = 128
"""Records waiting for a process above which fetching more is not urgent."""

LONG_PAUSE = 0.02
"""Seconds between two polls above that number. A fetch costs about as much as ten trivial files,
however little it returns."""

OWNERSHIP_VALID_FOR = SESSION_TIMEOUT_MS / 2000
"""Seconds after a heartbeat or a commit in which the group cannot have expelled this pod: half the
session timeout, since publishing an outcome takes time too."""

REVOKE_FLUSH_TIMEOUT = 1.0
"""Seconds to wait for outcomes that are being published, before that commit."""

REVOKE_COMMIT_TIMEOUT = 2.0
"""Seconds for the last commit before a rebalance; the group waits for this pod meanwhile."""


class WorkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Fetches records from the work topics and holds the partitions assigned to this pod."""

    def __init__(
        self,
        *,
        settings: ProcessorSettings,
        runner: Runner,
        outcomes: Outcomes,
        pace: Pace,
        cancels: CancelRequests,
        space: ScratchSpace,
    ) -> None:
        self._settings = settings
        self._cancels = cancels
        self._consumer: AIOKafkaConsumer | None = None
        self._windows: dict[TopicPartition, PartitionWindow] = {}
        self._generation = 0
        """Generation of the group in which this pod's windows are valid."""
        self._known_ledgers: dict[TopicPartition, set[tuple[int, str]]] = {}
        """Committed ledgers per partition, plus those of commits whose response was lost. There are
        only a few while Kafka is unreachable, since no work finishes then."""
        self._commits: set[asyncio.Task[None]] = set()
        self._outcomes = outcomes
        self._settled = asyncio.Event()
        outcomes.verify_ownership = self._verify_ownership
        outcomes.ensure_ownership = self._ensure_ownership
        self._last_accepted = -math.inf
        """When this pod last sent a request that the group accepted, in seconds of `_clock`."""
        self.committer = Committer(self._commit, settled=self._settled)
        self._in_flight = InFlightRecords(
            settings=settings,
            runner=runner,
            outcomes=outcomes,
            pace=pace,
            cancels=cancels,
            committer=self.committer,
            has_room=lambda: space.unavailable_reason is None,
        )
        space.on_space = self._in_flight.begin_waiting
        cancels.on_request = self._in_flight.cancel
        self._draining = False
        self._is_full = False

    @property
    def ready(self) -> bool:
        """True once the group has assigned partitions (possibly none) to this pod."""
        return self._settled.is_set()

    @property
    def partitions(self) -> int:
        """Number of partitions assigned to this pod."""
        return len(self._windows)

    async def run(self, loop: RunningLoop) -> None:
        """Fetch and process records until `drain` is called; then wait to be cancelled.

        Raises:
            KafkaError: Kafka reported an error that a retry does not resolve.
        """
        while not self._cancels.loaded.is_set():
            loop.waits_for("the cancel requests")
            await set_within(self._cancels.loaded, CHECK_INTERVAL)
        consumer = await self._join(loop)
        self._track_heartbeats(consumer)
        await self._poll_until_drained(consumer, loop)
        while True:  # Running work still commits, and may still be cancelled.
            loop.succeeded()
            await asyncio.sleep(CHECK_INTERVAL)

    async def _join(self, loop: RunningLoop) -> AIOKafkaConsumer:
        """Join the group, however long it takes: no records are held yet."""
        while True:
            consumer = self._consumer = self._new_consumer()
            consumer.subscribe(topic_names(self._settings, WORK_TOPICS), listener=self)
            try:
                async with joins_group(PROCESSOR_GROUP):
                    await consumer.start()
                return consumer
            except OUTAGES as error:
                log.warning("cannot join the group %s: %r", PROCESSOR_GROUP, error)
            await close_consumer(consumer)
            loop.waits_for("Kafka")
            await asyncio.sleep(KAFKA_RETRY_DELAY)

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **kafka_options(self._settings),
            client_id=f"processor-{self._settings.pod}",
            group_id=group_name(self._settings, PROCESSOR_GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            max_partition_fetch_bytes=MAX_PARTITION_FETCH,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )

    def begin_drain(self) -> None:
        """Stop fetching records. Safe to call from a signal handler."""
        self._draining = True

    async def drain(self, grace: float) -> None:
        """Finish what ends within `grace` seconds, release the rest, and leave the group."""
        self.begin_drain()
        # If the pod is killed before the grace period ends, its work counts as released.
        self.committer.changed(*self._windows)
        await self._in_flight.finish_running(grace)
        await self._outcomes.flush(REVOKE_FLUSH_TIMEOUT)
        await self._in_flight.release(self._windows)
        self.committer.close()
        await cancelled(self._commits)
        if self._consumer is not None:
            await self._commit_returning()
            await close_consumer(self._consumer)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit running work as released when a rebalance starts.

        The work continues, since most partitions return to the same pod.
        """
        self._settled.clear()
        if revoked:
            await self._outcomes.flush(REVOKE_FLUSH_TIMEOUT)
            await self._commit_returning()
        # aiokafka would resend an unanswered commit in the next generation, and overwrite what the
        # new owner has committed by then.
        await cancelled(self._commits)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """After a rebalance, stop work on lost partitions and load the new ones."""
        before, self._generation = self._generation, self._group_generation
        kept = self._windows.keys() & set(assigned)
        if self._generation != before + 1:
            # This pod missed a generation (it was frozen, say); others may have had its partitions.
            ledgers = await self._ledgers(kept)
            kept = {each for each in kept if ledgers[each] in self._known_ledgers.get(each, ())}
        lost = self._windows.keys() - kept
        await self._in_flight.release(lost)
        for partition in lost:
            del self._windows[partition]
        # Kept partitions were committed as released; the next commit reverts that.
        self.committer.changed(*self._windows)
        new = await self._ledgers(set(assigned) - kept)
        for partition, ledger in new.items():
            offset, metadata = ledger
            self._known_ledgers[partition] = {ledger}
            self._windows[partition] = PartitionWindow.restore(max(offset, 0), metadata)
        self._in_flight.add_partitions({each: self._windows[each] for each in new})
        log.info("working on %d partitions, lost %d", len(self._windows), len(lost))
        self._settled.set()

    async def _ledgers(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, str]]:
        """Return the last committed ledgers of these partitions, from any pod."""
        while partitions:
            try:
                async with (
                    admin_client(self._settings) as admin,
                    kafka_answers("the ledgers of partitions"),
                ):
                    committed = await admin.list_consumer_group_offsets(
                        group_name(self._settings, PROCESSOR_GROUP), partitions=list(partitions)
                    )
                return {each: (found.offset, found.metadata) for each, found in committed.items()}
            except OUTAGES as error:
                log.warning("cannot read the ledgers of %d partitions: %r", len(partitions), error)
                await asyncio.sleep(KAFKA_RETRY_DELAY)
        return {}

    async def _poll_until_drained(self, consumer: AIOKafkaConsumer, loop: RunningLoop) -> None:
        answers = Answers(consumer)
        while not self._draining:
            batches = await self._poll(consumer)
            while not self._settled.is_set():  # A rebalance is in progress.
                loop.alive()
                await set_within(self._settled, CHECK_INTERVAL)
            # A full window does not need Kafka to answer.
            if answers.came() or batches or self._is_full:
                loop.succeeded()
            else:
                loop.alive()
            for partition, records in batches.items():
                window = self._windows.get(partition)
                if window is None:
                    continue  # Lost during the poll; the new owner receives these records.
                for record in records:
                    self._in_flight.accept(window, partition, record)
            self._in_flight.begin_waiting()
            if batches:
                await asyncio.sleep(LONG_PAUSE if self._in_flight.waiting >= WORK_ENOUGH else PAUSE)

    async def _poll(
        self, consumer: AIOKafkaConsumer
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Fetch records of the partitions with free slots.

        Records of the others stay in aiokafka's buffer. Pausing a partition would discard its
        buffer, and the records would be fetched again.
        """
        enough = max(1, self._settings.window // 4)
        rooms = {
            partition: self._settings.window - len(window.in_flight)
            for partition, window in self._windows.items()
            if partition in consumer.assignment()
        }
        too_heavy = self._in_flight.bytes_in_flight >= self._settings.window_bytes
        ready = {
            partition: room for partition, room in rooms.items() if room >= enough and not too_heavy
        }
        self._is_full = bool(rooms) and not ready
        if self._is_full:
            await asyncio.sleep(FULL_POLL_TIMEOUT_MS / 1000)
            return {}
        records: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await consumer.getmany(
            *ready,
            timeout_ms=FULL_POLL_TIMEOUT_MS if len(ready) < len(rooms) else POLL_TIMEOUT_MS,
            max_records=min(ready.values(), default=1),
        )
        return records

    async def _commit(
        self, partitions: Collection[TopicPartition], *, returning: bool = False
    ) -> None:
        assert self._consumer is not None  # noqa: S101 - run() set it
        offsets = {
            partition: (window.watermark, window.ledger(returning=returning or self._draining))
            for partition in partitions
            if (window := self._windows.get(partition)) is not None
        }
        if not offsets:
            return
        if self._group_generation != self._generation:
            # Kafka accepts a commit without a generation while the group has no members.
            raise CommitFailedError("the group has expelled this pod")
        for partition, ledger in offsets.items():
            self._known_ledgers[partition].add(ledger)
        sent = _clock()
        commit = asyncio.create_task(self._consumer.commit(offsets))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        try:
            await asyncio.wait({commit}, timeout=deadlines.KAFKA_ANSWERS_WITHIN)
        finally:
            commit.cancel()
        if not commit.done():
            raise CommitFailedError("Kafka does not answer")
        if commit.cancelled():
            raise CommitFailedError("interrupted by a rebalance")
        commit.result()
        self._last_accepted = max(self._last_accepted, sent)
        self._known_ledgers |= {partition: {ledger} for partition, ledger in offsets.items()}

    @property
    def _group_generation(self) -> int:
        assert self._consumer is not None  # noqa: S101 - run() set it
        coordinator = self._consumer._coordinator  # noqa: SLF001 - aiokafka has no public API
        generation: int = coordinator.generation
        return generation

    async def _verify_ownership(self, record: KafkaRecord) -> None:
        """Return once a commit succeeded: the group rejects commits of a pod that it expelled."""
        await self.committer.written({TopicPartition(record.topic, record.partition)})

    async def _ensure_ownership(self, record: KafkaRecord) -> None:
        """Return once no other pod can hold this record.

        A pod that was frozen or cut off from Kafka does not know that the group expelled it. The
        outcomes of its work wait until a commit succeeds. If it is rejected, the work is released.
        """
        is_member = self._group_generation == self._generation
        if not is_member or _clock() - self._last_accepted > OWNERSHIP_VALID_FOR:
            await self._verify_ownership(record)

    def _track_heartbeats(self, consumer: AIOKafkaConsumer) -> None:
        """Record when accepted heartbeats were sent; aiokafka does not expose this."""
        coordinator = consumer._coordinator  # noqa: SLF001
        heartbeat = coordinator._do_heartbeat  # noqa: SLF001

        async def timed_heartbeat() -> bool:
            sent = _clock()
            accepted: bool = await heartbeat()
            if accepted:
                self._last_accepted = max(self._last_accepted, sent)
            return accepted

        coordinator._do_heartbeat = timed_heartbeat  # noqa: SLF001

    async def _commit_returning(self) -> None:
        """Commit the current position before partitions are revoked."""
        try:
            async with asyncio.timeout(REVOKE_COMMIT_TIMEOUT):
                await self._commit(list(self._windows), returning=True)
        except (TimeoutError, *COMMIT_ERRORS) as error:
            log.warning("cannot commit before the rebalance: %r", error)


def _clock() -> float:
    """Return a monotonic time in seconds that also advances while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

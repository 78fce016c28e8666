"""The projector: folds the events from Kafka into MongoDB.

At least once: group `projector`, from the earliest offset. The offsets of a batch are committed
after MongoDB has acknowledged its changes. Records that cannot be stored must have been
dead-lettered too. FastStream swallows exceptions of a handler, and the commit of the next batch
would then skip the failed one. The handler therefore raises nothing but its cancellation, and
retries.

The range assignor assigns the same partition numbers of all topics to one pod, so each file has a
single writer.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from services.status.projection.projection import Status, fold
from services.status.store.store import FileStore
from services.status.store.stored_documents import UnstorableError
from shared.background.supervision import RunningLoop
from shared.deadlines import joins_group, kafka_answers
from shared.errors import KafkaUnavailableError
from shared.events.events import AnyEvent, FileUploaded, StatusEvent, is_status_event
from shared.events.facts import DeadCode
from shared.events.reading import UnreadableEventError, parse
from shared.events.topics import EVENT_TOPICS
from shared.kafka.connection import Answers, close_client, close_consumer, security_of
from shared.kafka.consuming import (
    UNAVAILABLE,
    DeadLetterWriter,
    LetterWriter,
    note_error,
    place_of,
    places_of,
    until_done,
)
from shared.kafka.messaging import (
    PROJECTOR_GROUP,
    SESSION_TIMEOUT_MS,
    KafkaRecord,
    group_name,
    topic_names,
)
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from shared.telemetry import PROJECTED, UNREADABLE

log = logging.getLogger(__name__)

MAX_FETCH = 2 << 20
"""Bytes of one fetch, which is folded as one batch: about 3,500 records, one read and one write in
MongoDB, and at most about 20 MB of memory."""

PREFETCH_BACKOFF = 3600.0
"""Seconds for which aiokafka fetches nothing while fetched records are waiting to be consumed."""

PAUSE = 0.05
"""Seconds to pause after a small batch; a fuller batch gets a shorter pause. Events that arrive
meanwhile are folded together, so that a short file often needs one write. With 0.02 s, the
projector used a tenth more processor time than with 0.1 s, and Kafka a third more. Lists lag by
this much. Live states come from the hub."""

FULL_BATCH = 250
"""Records in a batch after which there is no pause. Enough new events arrive while these are
folded."""

MAX_NAMED = 10
"""Files that a log line about a failed batch names."""

MAX_RECENT = 5000
"""Files whose statuses are cached, about 5 kB each."""

CHECK_INTERVAL = 1.0
"""Seconds between two checks that the consumer runs and Kafka responds."""

WAITING_AFTER = 10.0
"""Seconds after which a batch in progress counts as waiting. A batch normally takes some tenths of
a second."""


class ConsumingEndedError(Exception):
    """A consumer ended without being asked to."""


@dataclass(slots=True)
class FileEvents:
    """The events of one file with their offsets, and the records they were read from."""

    events: list[tuple[StatusEvent, int]] = field(default_factory=list)
    records: list[KafkaRecord] = field(default_factory=list)


EventsOfFiles = dict[str, FileEvents]


class Projector:
    """Folds batches of records into a store. Live events and replays both use `project`."""

    def __init__(
        self,
        store: FileStore,
        publisher: Publisher | None = None,
        *,
        parse: Callable[[bytes], AnyEvent | None] = parse,
        letters: LetterWriter | None = None,
    ) -> None:
        self._store = store
        self._parse = parse
        self._letters: LetterWriter = letters or DeadLetterWriter(publisher, source="/projector")
        self._broker: KafkaBroker | None = None
        self._subscriber: Any = None
        self._in_hand_since: float | None = None
        """When the current batch arrived, in monotonic seconds. None between two batches."""
        self.started = asyncio.Event()
        """Set once the consumer group has assigned partitions to this pod."""
        self._recent: OrderedDict[str, Status] = OrderedDict()
        """Unfinished files as this projector last saved them. The store rejects a write if another
        writer has changed the document since."""

    async def start(self, settings: Settings) -> None:
        """Start consuming; return once the consumer group has assigned partitions to this pod.

        Before that, a list may lack changes that no stream delivers any more.
        """
        broker = self._broker = KafkaBroker(
            settings.kafka.split(","),
            security=security_of(settings),
            client_id="projector",
            allow_auto_create_topics=False,
            logger=None,
        )
        subscriber = self._subscriber = broker.subscriber(
            *topic_names(settings, EVENT_TOPICS),
            group_id=group_name(settings, PROJECTOR_GROUP),
            batch=True,
            fetch_max_bytes=MAX_FETCH,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 3,
            ack_policy=AckPolicy.MANUAL,
            decoder=_leave_undecoded,
        )

        @subscriber
        async def project(message: KafkaMessage) -> None:
            records = message.raw_message
            await until_done(
                lambda: self.project(records),
                consumer=PROJECTOR_GROUP,
                where=lambda: places_of(records),
            )
            await self._commit(records)
            await asyncio.sleep(PAUSE * max(0, 1 - len(records) / FULL_BATCH))

        await broker.start()
        # After 0.1 s, aiokafka would fetch the partitions that have no unconsumed records. If those
        # have no new ones, Kafka holds the request for half a second, and delays all others with
        # it.
        self._subscriber.consumer._fetcher._prefetch_backoff = PREFETCH_BACKOFF  # noqa: SLF001

    async def run(self, settings: Settings, loop: RunningLoop) -> None:
        """Project until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka is unavailable.
            ConsumingEndedError: FastStream or aiokafka ended without being asked to.
        """
        try:
            async with joins_group(PROJECTOR_GROUP):
                await self.start(settings)
            self.started.set()
            await self.watch(loop)
        finally:
            await self.stop()

    async def watch(self, loop: RunningLoop) -> None:
        """Monitor the consumer until cancelled, since FastStream does not report that it has ended.

        Raises:
            KafkaError: the consumer has ended with this error.
            ConsumingEndedError: the consumer has ended without an error.
        """
        consumer = self._subscriber.consumer
        coordination = consumer._coordinator._coordination_task  # noqa: SLF001
        answers = Answers(consumer)
        while True:
            await asyncio.wait({coordination}, timeout=CHECK_INTERVAL)
            if coordination.done() and not coordination.cancelled():
                coordination.result()
            if coordination.done() or all(task.done() for task in self._subscriber.tasks):
                raise ConsumingEndedError("the consumer of the projector has ended")
            if self._in_hand_since is None or self._seconds_in_hand() < WAITING_AFTER:
                if answers.came():
                    loop.succeeded()
            elif self._store.is_away:
                loop.waits_for("MongoDB")

    def _seconds_in_hand(self) -> float:
        return 0.0 if self._in_hand_since is None else time.monotonic() - self._in_hand_since

    async def stop(self) -> None:
        """Stop the consumer within seconds."""
        if self._broker is None:
            return
        broker, self._broker = self._broker, None
        tasks, consumer = tuple(self._subscriber.tasks), self._subscriber.consumer
        if not await close_client(broker.stop()):
            for task in tasks:
                task.cancel()
            if consumer is not None:
                await close_consumer(consumer)

    async def _commit(self, records: Sequence[KafkaRecord]) -> None:
        """Commit the offsets up to the end of these records, and no further.

        After a rebalance, another pod may process the same records again, which is harmless.
        """
        consumer = self._subscriber.consumer
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            offsets[partition] = max(offsets.get(partition, 0), record.offset + 1)
        ours = {each: offset for each, offset in offsets.items() if each in consumer.assignment()}
        try:
            if ours:
                async with kafka_answers("the commit of the projector"):
                    await consumer.commit(ours)
        except (KafkaError, KafkaUnavailableError) as error:
            log.warning("commit of %s postponed to the next one: %r", places_of(records), error)
        except Exception as error:  # Everything is stored, so there is nothing to retry.
            note_error(PROJECTOR_GROUP, error, places_of(records))

    async def project(self, records: Sequence[KafkaRecord]) -> None:
        """Fold records into the store; return when all are stored or dead-lettered.

        Waits for as long as MongoDB is unavailable, or Kafka if a dead letter must be written.
        """
        self._in_hand_since = time.monotonic()
        try:
            await self._project(records)
        finally:
            self._in_hand_since = None

    async def _project(self, records: Sequence[KafkaRecord]) -> None:
        events = await self._read(records)
        again = False
        while events:
            events, again = (
                await until_done(
                    lambda: self._fold(events, again=again),  # noqa: B023 - awaited at once
                    consumer=PROJECTOR_GROUP,
                    where=lambda: _places_of(events),  # noqa: B023
                ),
                True,
            )
        PROJECTED.inc(len(records))

    async def _fold(self, events: EventsOfFiles, *, again: bool) -> EventsOfFiles:
        """Fold events into the store; return those of files that another writer changed.

        Args:
            again: True if the store has already rejected a change of these files.
        """
        stored = {file_id: self._recent.pop(file_id, None) for file_id in events}
        unknown = [
            file_id
            for file_id, status in stored.items()
            # A file whose upload is in this batch is new. If it is not, the store rejects the
            # insert and the file is read. Events of two topics may arrive in either order.
            if status is None
            and (
                again or not any(type(event) is FileUploaded for event, _ in events[file_id].events)
            )
        ]
        if unknown:
            stored |= await self._store.get_many(unknown)
        changes: list[tuple[Status | None, Status]] = []
        unstorable: set[str] = set()
        for file_id, of_file in events.items():
            before = stored[file_id]
            try:
                after = fold(before, of_file.events)
            except Exception as error:  # A pure function fails because of its input.
                note_error(PROJECTOR_GROUP, error, places_of(of_file.records))
                unstorable.add(file_id)
                continue
            if after is not None and after is not before:
                changes.append((before, after))
        try:
            conflicts = await self._store.save(changes)
        except UnstorableError as error:
            conflicts = error.conflicts
            unstorable |= error.refused.keys()
        self._remember(new for _, new in changes if new.file_id not in conflicts | unstorable)
        # The store has a document that was not returned by the read: it is unreadable.
        unstorable |= {each for each in conflicts if again and stored[each] is None}
        for file_id in unstorable:
            await self._fold_one_by_one(file_id, events[file_id])
        return {file_id: events[file_id] for file_id in conflicts - unstorable}

    async def _fold_one_by_one(self, file_id: str, of_file: FileEvents) -> None:
        """Store as many events of a file as possible, and dead-letter the records of the others."""
        while of_file.events:
            (event, offset), record = of_file.events[0], of_file.records[0]
            try:
                before = (await self._store.get_many([file_id])).get(file_id)
                after = fold(before, [(event, offset)])
                assert after is not None  # noqa: S101 - there is an event
                if after is not before and await self._store.save([(before, after)]):
                    # Either another writer changed the file, or its document is unreadable.
                    await self._store.get(file_id)
                    continue
            except UnstorableError as error:
                await self._letters.write(record, error.refused[file_id], DeadCode.UNSTORABLE)
            except UNAVAILABLE:
                raise
            except Exception as error:
                reason = f"The event cannot be folded: {type(error).__name__}: {error}"
                note_error(PROJECTOR_GROUP, error, place_of(record))
                await self._letters.write(record, reason, DeadCode.UNSTORABLE)
            # A processed record is not processed again if MongoDB fails for the next one.
            del of_file.events[0], of_file.records[0]

    def _remember(self, saved: Iterable[Status]) -> None:
        for status in saved:
            # Finished files are kept as well while their upload event is missing.
            if not status.status.is_terminal or status.created_at is None:
                self._recent[status.file_id] = status
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    async def _read(self, records: Sequence[KafkaRecord]) -> EventsOfFiles:
        events: EventsOfFiles = {}
        for record in records:
            if record.value is None:
                continue
            try:
                event = self._parse(record.value)
            except UnreadableEventError as error:
                UNREADABLE.inc()
                await self._letters.write(record, str(error), error.code)
                continue
            if event is not None and is_status_event(event):
                of_file = events.setdefault(event.subject, FileEvents())
                of_file.events.append((event, record.offset))
                of_file.records.append(record)
        return events


def _places_of(events: EventsOfFiles) -> str:
    """Return where the records of these events are, and their files, for the log."""
    some = list(events)[:MAX_NAMED]
    places = places_of([record for each in events.values() for record in each.records])
    return f"{places} (files {', '.join(some)}{' …' if len(events) > MAX_NAMED else ''})"


async def _leave_undecoded(message: Any) -> bytes:  # noqa: ARG001 - FastStream passes the message
    """Skip FastStream's decoding, since `parse` reads the records."""
    return b""

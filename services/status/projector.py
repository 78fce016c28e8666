"""The projector: folds the events that Kafka brings into MongoDB.

At least once: group `projector`, from the earliest offset; the offsets of a batch are committed
after MongoDB has acknowledged what the batch changed, and Kafka the dead letters of what cannot be
stored. No other error lets a batch pass: FastStream swallows what a handler raises, and the next
batch would be committed past the failed one. So the handler raises nothing but its cancellation,
and retries.

The range assignor gives the same partition numbers of all these topics to one pod, so a file has
one writer.
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
"""Bytes that Kafka brings at once, and that are folded in one go: some 3,500 records, one read
and one write of MongoDB, and at most some 20 MB of memory."""

UNTIL_TAKEN = 3600.0
"""Seconds for which aiokafka fetches nothing while something waits to be taken."""

PAUSE = 0.05
"""Seconds after a small batch, and the less the fuller one is: what comes meanwhile is folded in
one go, and a short file's whole story is one write. With 0.02 the projector took a tenth more
processor time than with 0.1, and Kafka a third more. Lists lag so far behind; live states come
from the hub."""

FULL_BATCH = 250
"""Records after which there is no pause: what comes while so many are folded is enough."""

MAX_NAMED = 10
"""Files that a log line of a failed batch names."""

MAX_RECENT = 5000
"""Files that need not be read again, some 5 kB each."""

LOOK_EVERY = 1.0
"""Seconds between two looks whether the consumer lives and Kafka answers."""

BUSY_FOR = 10.0
"""Seconds that a batch may be in hand before it counts as one that waits: it takes some tenths."""


class ConsumingEndedError(Exception):
    """A consumer has ended although nobody had asked it to."""


@dataclass(slots=True)
class FileEvents:
    """The events of one file, each with its offset, and the records that they were read from."""

    events: list[tuple[StatusEvent, int]] = field(default_factory=list)
    records: list[KafkaRecord] = field(default_factory=list)


EventsOfFiles = dict[str, FileEvents]


class Projector:
    """Folds batches of records into a store; live and replay go through `project`."""

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
        """When the batch in hand came, in monotonic seconds; None between two batches."""
        self.started = asyncio.Event()
        """Set once Kafka has given this pod its share."""
        self._recent: OrderedDict[str, Status] = OrderedDict()
        """Files under way as this projector left them. Whether they still are so is for the store
        to say: it refuses to change what somebody else has changed."""

    async def start(self, settings: Settings) -> None:
        """Begin to project what Kafka brings; returns when it has given this pod its share.

        Who reads a list before that may miss what no stream tells any more.
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
        # After 0.1 s it would ask for the partitions of which nothing waits to be taken. If those
        # bring nothing, Kafka keeps the question for half a second, and all others with it.
        self._subscriber.consumer._fetcher._prefetch_backoff = UNTIL_TAKEN  # noqa: SLF001

    async def run(self, settings: Settings, loop: RunningLoop) -> None:
        """Project until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer.
            ConsumingEndedError: FastStream or aiokafka has ended without being asked to.
        """
        try:
            async with joins_group(PROJECTOR_GROUP):
                await self.start(settings)
            self.started.set()
            await self.watch(loop)
        finally:
            await self.stop()

    async def watch(self, loop: RunningLoop) -> None:
        """Look after what `start` began, until cancelled: FastStream tells nobody of its end.

        Raises:
            KafkaError: the consumer will bring nothing any more.
            ConsumingEndedError: the same, and there is no error that says why.
        """
        consumer = self._subscriber.consumer
        coordination = consumer._coordinator._coordination_task  # noqa: SLF001
        answers = Answers(consumer)
        while True:
            await asyncio.wait({coordination}, timeout=LOOK_EVERY)
            if coordination.done() and not coordination.cancelled():
                coordination.result()
            if coordination.done() or all(task.done() for task in self._subscriber.tasks):
                raise ConsumingEndedError("the consumer of the projector has ended")
            if self._in_hand_since is None or self._seconds_in_hand() < BUSY_FOR:
                if answers.came():
                    loop.succeeded()
            elif self._store.is_away:
                loop.waits_for("MongoDB")

    def _seconds_in_hand(self) -> float:
        return 0.0 if self._in_hand_since is None else time.monotonic() - self._in_hand_since

    async def stop(self) -> None:
        """End what `start` began, within seconds."""
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
        """Commit what lies below the ends of these records, and nothing beyond them.

        After a rebalance another pod may have them, and does the same again: that is harmless.
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
            log.warning("the commit of %s waits for the next one: %r", places_of(records), error)
        except Exception as error:  # All of it is stored: there is nothing to be done again.
            note_error(PROJECTOR_GROUP, error, places_of(records))

    async def project(self, records: Sequence[KafkaRecord]) -> None:
        """Fold records into the store; returns when all are stored, or in the dead letters.

        Waits for as long as MongoDB, or Kafka for a dead letter, does not answer.
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
        """Fold events into the store; returns those of files that somebody else changed.

        Args:
            again: the store has refused a change of these files.
        """
        stored = {file_id: self._recent.pop(file_id, None) for file_id in events}
        unknown = [
            file_id
            for file_id, status in stored.items()
            # One that begins here is new; should it not be, the store refuses it, and it is read.
            # Of two topics the second may come first.
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
            except Exception as error:  # A pure function fails on what it is given.
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
        # Of what has just been read the store says that it is there: it can be read by nobody.
        unstorable |= {each for each in conflicts if again and stored[each] is None}
        for file_id in unstorable:
            await self._fold_one_by_one(file_id, events[file_id])
        return {file_id: events[file_id] for file_id in conflicts - unstorable}

    async def _fold_one_by_one(self, file_id: str, of_file: FileEvents) -> None:
        """Store as much of a file's story as can be, and dead-letter the records of the rest."""
        while of_file.events:
            (event, offset), record = of_file.events[0], of_file.records[0]
            try:
                before = (await self._store.get_many([file_id])).get(file_id)
                after = fold(before, [(event, offset)])
                assert after is not None  # noqa: S101 - there is an event
                if after is not before and await self._store.save([(before, after)]):
                    # Somebody else changed it meanwhile; or it is there, and cannot be read.
                    await self._store.get(file_id)
                    continue
            except UnstorableError as error:
                await self._letters.write(record, error.refused[file_id], DeadCode.UNSTORABLE)
            except UNAVAILABLE:
                raise
            except Exception as error:
                reason = f"It cannot be folded: {type(error).__name__}: {error}"
                note_error(PROJECTOR_GROUP, error, place_of(record))
                await self._letters.write(record, reason, DeadCode.UNSTORABLE)
            # What is dealt with is not dealt with again, should MongoDB be away for the next one.
            del of_file.events[0], of_file.records[0]

    def _remember(self, saved: Iterable[Status]) -> None:
        for status in saved:
            # Even of a file that has ended, as long as its upload is still to come.
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
    """Where the records of these events stand, and of which files they are, for the log."""
    some = list(events)[:MAX_NAMED]
    places = places_of([record for each in events.values() for record in each.records])
    return f"{places} (files {', '.join(some)}{' …' if len(events) > MAX_NAMED else ''})"


async def _leave_undecoded(message: Any) -> bytes:  # noqa: ARG001 - FastStream passes the message
    """The records are read by `parse`, once, so FastStream need not decode them."""
    return b""

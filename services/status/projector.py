"""The projector: folds the events that Kafka brings into MongoDB.

At least once: group `projector`, from the earliest offset; the offsets of a batch are committed
after MongoDB has acknowledged what the batch changed. The range assignor gives the same partition
numbers of all these topics to one pod, so a file has one writer.
"""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from services.status.projection import Status, fold
from services.status.store import FileStore
from shared.connection import security_of
from shared.deadletters import dead_letter
from shared.errors import UnavailableError
from shared.events import AnyEvent, FileUploaded, StatusEvent, tells_of_status
from shared.messaging import SESSION_TIMEOUT_MS, KafkaRecord, group_name, topic_names
from shared.publishing import Publisher
from shared.reading import UnreadableEventError, parse
from shared.settings import Settings
from shared.telemetry import PROJECTED, UNREADABLE
from shared.topics import EVENT_TOPICS

log = logging.getLogger(__name__)

GROUP = "projector"

MAX_FETCH = 2 << 20
"""Bytes that Kafka brings at once, and that are folded in one go: some 3,500 records, one read
and one write of MongoDB, and at most some 20 MB of memory."""

UNTIL_TAKEN = 3600.0
"""Seconds for which aiokafka fetches nothing while something waits to be taken."""

RETRY_DELAY = 1.0
"""Seconds between two tries while MongoDB or Kafka is away; the batch waits, nothing is lost."""

PAUSE = 0.05
"""Seconds after a small batch, and the less the fuller one is: what comes meanwhile is folded in
one go, and a short file's whole story is one write. With 0.02 the projector took a tenth more
processor time than with 0.1, and Kafka a third more. Lists lag so far behind; live states come
from the hub."""

FULL_BATCH = 250
"""Records after which there is no pause: what comes while so many are folded is enough."""

MAX_RECENT = 5000
"""Files that need not be read again, some 5 kB each."""

EventsOfFile = dict[str, list[tuple[StatusEvent, int]]]


class Projector:
    """Folds batches of records into a store; live and replay go through `project`."""

    def __init__(
        self,
        store: FileStore,
        publisher: Publisher | None = None,
        *,
        parse: Callable[[bytes], AnyEvent | None] = parse,
    ) -> None:
        self._store = store
        self._parse = parse
        self._publisher = publisher
        self._broker: KafkaBroker | None = None
        self._subscriber: Any = None
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
            group_id=group_name(settings, GROUP),
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
            await self.project(message.raw_message)
            await message.ack()
            await asyncio.sleep(PAUSE * max(0, 1 - len(message.raw_message) / FULL_BATCH))

        await broker.start()
        # After 0.1 s it would ask for the partitions of which nothing waits to be taken. If those
        # bring nothing, Kafka keeps the question for half a second, and all others with it.
        self._subscriber.consumer._fetcher._prefetch_backoff = UNTIL_TAKEN  # noqa: SLF001

    async def watch(self) -> None:
        """Look after what `start` began, until cancelled: FastStream tells nobody of its end.

        Raises:
            KafkaError: the consumer will bring nothing any more.
        """
        consumer = self._subscriber.consumer
        await asyncio.shield(consumer._coordinator._coordination_task)  # noqa: SLF001

    async def stop(self) -> None:
        """End what `start` began."""
        if self._broker is not None:
            await self._broker.stop()

    async def project(self, records: Sequence[KafkaRecord]) -> None:
        """Fold records into the store; returns when all of them are stored.

        Waits for as long as MongoDB, or Kafka for a dead letter, does not answer.
        """
        events = await self._read(records)
        again = False
        while events:
            try:
                events, again = await self._fold(events, again=again), True
            except UnavailableError as error:
                log.warning("projection waits: %s", error)
                await asyncio.sleep(RETRY_DELAY)
        PROJECTED.inc(len(records))

    async def _fold(self, events: EventsOfFile, *, again: bool) -> EventsOfFile:
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
            and (again or not any(type(event) is FileUploaded for event, _ in events[file_id]))
        ]
        if unknown:
            stored |= await self._store.get_many(unknown)
        changes: list[tuple[Status | None, Status]] = []
        for file_id, of_file in events.items():
            before = stored[file_id]
            after = fold(before, of_file)
            if after is not None and after is not before:
                changes.append((before, after))
        conflicts = await self._store.save(changes)
        self._remember(new for _, new in changes if new.file_id not in conflicts)
        return {file_id: events[file_id] for file_id in conflicts}

    def _remember(self, saved: Iterable[Status]) -> None:
        for status in saved:
            # Even of a file that has ended, as long as its upload is still to come.
            if not status.status.is_terminal or status.created_at is None:
                self._recent[status.file_id] = status
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    async def _read(self, records: Sequence[KafkaRecord]) -> EventsOfFile:
        events: EventsOfFile = defaultdict(list)
        for record in records:
            if record.value is None:
                continue
            try:
                event = self._parse(record.value)
            except UnreadableEventError as error:
                await self._bury(record, error)
                continue
            if event is not None and tells_of_status(event):
                events[event.subject].append((event, record.offset))
        return events

    async def _bury(self, record: KafkaRecord, error: UnreadableEventError) -> None:
        log.warning("unreadable record %s:%d@%d", record.topic, record.partition, record.offset)
        UNREADABLE.inc()
        while self._publisher is not None:
            try:
                letter = dead_letter(record, str(error), source="/projector", code=error.code)
                await self._publisher.publish(letter)
                return
            except UnavailableError as unavailable:
                log.warning("a dead letter waits: %s", unavailable)
                await asyncio.sleep(RETRY_DELAY)


async def _leave_undecoded(message: Any) -> bytes:  # noqa: ARG001 - FastStream passes the message
    """The records are read by `parse`, once, so FastStream need not decode them."""
    return b""

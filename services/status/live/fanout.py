"""The fan-out: reads the tail of the event topics, on every pod, for the hub.

No group: every pod reads every partition and commits nothing. It begins some minutes before the
end, so that it knows what a client of another pod may have missed. What was in the log before is in
MongoDB: the fan-out waits until the projector has passed the place where it begins.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from itertools import count

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.status.live import cursor
from services.status.live.cursor import Partition
from services.status.live.hub import Hub
from services.status.live.overlay import Observed
from services.status.live.recent import MAX_RECENT
from shared.background.supervision import RunningLoop
from shared.deadlines import kafka_answers
from shared.errors import UnavailableError
from shared.events.events import utc_now
from shared.events.topics import EVENT_TOPICS
from shared.kafka.connection import Answers, admin_client
from shared.kafka.log import beginning_offsets, end_offsets, newest_time, offsets_at, open_log
from shared.kafka.messaging import PROJECTOR_GROUP, group_name, read_status_event, topic_names
from shared.settings import Settings

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS = 1000
POLL_PAUSE = 0.002
"""Seconds between two polls that brought something: what comes right behind is told in one go."""

LARGE_POLL = 20
"""Events in one poll from which on there is more to win by taking the next ones together."""

LARGE_POLL_PAUSE = 0.02
"""Seconds between two polls in a crowd: nobody sees it, and each poll asks Kafka for 36 partitions,
whatever they bring."""

LOOK_BACK = (300.0, 120.0, 60.0, 45.0, 30.0, 20.0, 10.0, 5.0)
"""Seconds before the latest event from which a pod that starts reads the log: the longest in which
there were no more events than it remembers. A client that was cut off comes back within seconds."""

CATCH_UP_INTERVAL = 0.2
"""Seconds between two looks at how far the projector has come."""

RETRY_DELAY = 1.0
"""Seconds between two tries while the hub cannot take more without MongoDB; the tail waits in
Kafka."""


class FanOut:
    """Feeds the hub from the tail of the log."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._settings = settings
        self._hub = hub
        self._topics = dict(zip(topic_names(settings, cursor.TOPICS), count(), strict=False))
        """Which of the topics that cursors count a topic is."""
        self._position: dict[TopicPartition, int] = {}
        """Of each partition, the offset of the next record."""
        self._counted: dict[TopicPartition, Partition] = {}
        """What cursors call those partitions that they count."""
        self._start: dict[TopicPartition, int] = {}
        """Where the tail began; the projector must have passed it."""
        self._until: dict[TopicPartition, int] = {}
        """Where the log ended then: from there on this pod knows the present."""

    async def run(self, loop: RunningLoop) -> None:
        """Feed the hub until cancelled; another run goes on where the last one was.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer.
        """
        async with open_log(self._settings, EVENT_TOPICS, client_id="fan-out") as (
            consumer,
            partitions,
        ):
            if not self._position:
                await self._begin(consumer, partitions)
            for partition, offset in self._position.items():
                consumer.seek(partition, offset)
            await self._wait_for_projector(consumer, loop)
            answers = Answers(consumer)
            while True:
                self._hub.behind = "its own tail" if self._is_behind() else None
                fed = await self._feed(consumer, loop)
                if answers.check(brought=fed > 0):
                    loop.succeeded()
                if fed and self._hub.behind is None:
                    await asyncio.sleep(LARGE_POLL_PAUSE if fed >= LARGE_POLL else POLL_PAUSE)

    async def _begin(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        """Choose where to begin, so that clients of a pod that has just gone can go on here."""
        end = await end_offsets(consumer, partitions)
        self._counted = {
            each: Partition(self._topics[each.topic], each.partition)
            for each in partitions
            if each.topic in self._topics
        }
        counted = list(self._counted)
        # By the log's own time: this pod's clock may be wrong, and it knows of no other yet.
        newest = await newest_time(consumer, {each: end[each] for each in counted}) or utc_now()
        start, since = end, newest
        for seconds in LOOK_BACK:
            moment = newest - timedelta(seconds=seconds)
            found = await offsets_at(consumer, counted, int(moment.timestamp() * 1000))
            begin = end | {partition: at.offset for partition, at in found.items() if at}
            if sum(end[partition] - begin[partition] for partition in counted) <= MAX_RECENT:
                start, since = begin, moment
                break
        self._start, self._until, self._position = dict(start), end, dict(start)
        self._hub.begin(self._cursor(self._position), since)

    def _is_behind(self) -> bool:
        """Whether the tail has yet to reach the place that was the end when this pod started."""
        return any(self._position[partition] < offset for partition, offset in self._until.items())

    async def _wait_for_projector(self, consumer: AIOKafkaConsumer, loop: RunningLoop) -> None:
        """Return when all that lies before the start is stored in MongoDB."""
        if not self._start:
            return
        begin = await beginning_offsets(consumer, list(self._start))
        behind = {partition for partition, end in self._start.items() if end > begin[partition]}
        async with admin_client(self._settings) as admin:
            while behind:
                self._hub.behind = f"the projector, on {len(behind)} partitions"
                behind = await self._not_passed(admin, behind)
                loop.succeeded()
                await asyncio.sleep(CATCH_UP_INTERVAL if behind else 0)
        self._start = {}

    async def _not_passed(
        self, admin: AIOKafkaAdminClient, partitions: set[TopicPartition]
    ) -> set[TopicPartition]:
        """Those of the partitions on which the projector has yet to pass the start."""
        async with kafka_answers("how far the projector is"):
            passed = await admin.list_consumer_group_offsets(
                group_name(self._settings, PROJECTOR_GROUP), partitions=list(partitions)
            )
        return {
            each
            for each in partitions
            if each not in passed or passed[each].offset < self._start[each]
        }

    async def _feed(self, consumer: AIOKafkaConsumer, loop: RunningLoop) -> int:
        """Hand on what one poll brings; returns how many events that are."""
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)
        events: list[Observed] = []
        position = dict(self._position)
        # Uploads first: what comes behind its cause has not to wait for it.
        last = len(self._topics)
        for partition in sorted(batches, key=lambda each: self._topics.get(each.topic, last)):
            records = batches[partition]
            counted = self._counted.get(partition)
            events.extend(
                Observed(event, counted, partition.partition, record.offset)
                for record in records
                if (event := read_status_event(record)) is not None
            )
            position[partition] = records[-1].offset + 1
        at_end = all(
            offset >= (consumer.highwater(partition) or 0) for partition, offset in position.items()
        )
        while True:
            try:
                await self._hub.observe(events, self._cursor(position), at_end=at_end)
                break
            except UnavailableError as error:
                log.warning("the fan-out waits: %s", error)
                loop.waits_for("MongoDB")
                await asyncio.sleep(RETRY_DELAY)
        # Only now: should the hub fail, the next run brings the same events once more.
        self._position = position
        return len(events)

    def _cursor(self, position: Mapping[TopicPartition, int]) -> dict[Partition, int]:
        """How far the topics are read that cursors count."""
        return {counted: position[each] for each, counted in self._counted.items()}

"""The fan-out: reads the tail of the event topics, on every pod, for the hub.

It uses no consumer group: every pod reads every partition and commits nothing. It begins some
minutes before the end of the log, so that it knows what a client of another pod may have missed.
Everything before that is in MongoDB, so the fan-out waits until the projector has passed its
starting point.
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
"""Seconds between two polls that returned events. Events that follow closely share one batch."""

LARGE_POLL = 20
"""Events in one poll from which a longer pause pays off."""

LARGE_POLL_PAUSE = 0.02
"""Seconds after a large poll. The delay is not noticeable, and each poll costs a request for 36
partitions."""

LOOK_BACK = (300.0, 120.0, 60.0, 45.0, 30.0, 20.0, 10.0, 5.0)
"""Seconds before the latest event from which a starting pod reads the log. It picks the longest
period that has no more events than `Recent` keeps. A disconnected client returns within seconds."""

CATCH_UP_INTERVAL = 0.2
"""Seconds between two checks of the projector's committed offsets."""

RETRY_DELAY = 1.0
"""Seconds between two attempts while the hub accepts no events because MongoDB is unavailable. The
tail waits in Kafka."""


class FanOut:
    """Feeds the hub from the tail of the log."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._settings = settings
        self._hub = hub
        self._topics = dict(zip(topic_names(settings, cursor.TOPICS), count(), strict=False))
        """Index in `cursor.TOPICS` of each counted topic, by topic name."""
        self._position: dict[TopicPartition, int] = {}
        """Offset of the next record of each partition."""
        self._counted: dict[TopicPartition, Partition] = {}
        """Cursor partitions of the partitions that cursors count."""
        self._start: dict[TopicPartition, int] = {}
        """Offsets at which the tail began. The projector must have passed them."""
        self._until: dict[TopicPartition, int] = {}
        """End offsets at the start. Once they are reached, this pod is up to date."""

    async def run(self, loop: RunningLoop) -> None:
        """Feed the hub until cancelled. A later run resumes where the last one stopped.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka is unavailable.
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
        """Choose the starting offsets.

        They lie before the end, so that clients of a pod that just stopped can resume here.
        """
        end = await end_offsets(consumer, partitions)
        self._counted = {
            each: Partition(self._topics[each.topic], each.partition)
            for each in partitions
            if each.topic in self._topics
        }
        counted = list(self._counted)
        # Use the log's own time: this pod's clock may be wrong, and no other clock is known yet.
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
        """Return True if the tail has not reached the end offsets of the pod's start."""
        return any(self._position[partition] < offset for partition, offset in self._until.items())

    async def _wait_for_projector(self, consumer: AIOKafkaConsumer, loop: RunningLoop) -> None:
        """Return when everything before the start is stored in MongoDB."""
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
        """Return the partitions on which the projector has not passed the start."""
        async with kafka_answers("the committed offsets of the projector"):
            passed = await admin.list_consumer_group_offsets(
                group_name(self._settings, PROJECTOR_GROUP), partitions=list(partitions)
            )
        return {
            each
            for each in partitions
            if each not in passed or passed[each].offset < self._start[each]
        }

    async def _feed(self, consumer: AIOKafkaConsumer, loop: RunningLoop) -> int:
        """Pass the records of one poll to the hub; return the number of events."""
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)
        events: list[Observed] = []
        position = dict(self._position)
        # Uploads first, so that their later events do not have to wait for them.
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
                log.warning("the fan-out is paused: %s", error)
                loop.waits_for("MongoDB")
                await asyncio.sleep(RETRY_DELAY)
        # Set this last: if the hub fails, the next run reads the same events again.
        self._position = position
        return len(events)

    def _cursor(self, position: Mapping[TopicPartition, int]) -> dict[Partition, int]:
        """Return the cursor of a position: the offsets of the counted partitions."""
        return {counted: position[each] for each, counted in self._counted.items()}

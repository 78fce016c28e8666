"""The fan-out: reads the tail of the event topics, on every pod, for the hub.

No group: every pod reads every partition and commits nothing. It begins some minutes before the
end, so that it knows what a client of another pod may have missed. What was in the log before is in
MongoDB: the fan-out waits until the projector has passed the place where it begins.
"""

import asyncio
import logging
import time
from itertools import count

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.status import cursor
from services.status.cursor import Partition
from services.status.hub import Hub
from services.status.overlay import Observed
from services.status.projector import GROUP
from services.status.recent import MAX_RECENT
from shared.connection import admin_client
from shared.errors import UnavailableError
from shared.log import open_log
from shared.messaging import group_name, read_status_event, topic_names
from shared.settings import Settings
from shared.topics import EVENT_TOPICS

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS = 1000
PAUSE = 0.002
"""Seconds between two polls that brought something: what comes right behind is told in one go."""

CROWD = 20
"""Events in one poll from which on there is more to win by taking the next ones together."""

LONG_PAUSE = 0.02
"""Seconds between two polls in a crowd: nobody sees it, and each poll asks Kafka for 36 partitions,
whatever they bring."""

LOOK_BACK = (300.0, 120.0, 60.0, 45.0, 30.0, 20.0, 10.0, 5.0)
"""Seconds before its start from which a pod reads the log: the longest in which there were no more
events than it remembers. A client that was cut off comes back within seconds."""

CATCH_UP_INTERVAL = 0.2
"""Seconds between two looks at how far the projector has come."""

RETRY_DELAY = 1.0
"""Seconds between two tries while MongoDB is away; the tail waits in Kafka."""


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

    async def run(self) -> None:
        """Feed the hub until cancelled."""
        async with open_log(self._settings, EVENT_TOPICS, client_id="fan-out") as (
            consumer,
            partitions,
        ):
            end = await consumer.end_offsets(partitions)
            self._counted = {
                each: Partition(self._topics[each.topic], each.partition)
                for each in partitions
                if each.topic in self._topics
            }
            self._position = await self._begin(consumer, end)
            for partition, offset in self._position.items():
                consumer.seek(partition, offset)
            self._hub.begin(self._read())
            await self._wait_for_projector(consumer, dict(self._position))
            while any(self._position[partition] < offset for partition, offset in end.items()):
                self._hub.behind = "its own tail"
                await self._feed(consumer)
            self._hub.behind = None
            while True:
                if (fed := await self._feed(consumer)) > 0:
                    await asyncio.sleep(LONG_PAUSE if fed >= CROWD else PAUSE)

    async def _begin(
        self, consumer: AIOKafkaConsumer, end: dict[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Where to begin, so that clients of a pod that has just gone can go on with this one."""
        counted = list(self._counted)
        for seconds in LOOK_BACK:
            since = int((time.time() - seconds) * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(counted, since))
            begin = end | {partition: at.offset for partition, at in found.items() if at}
            if sum(end[partition] - begin[partition] for partition in counted) <= MAX_RECENT:
                return begin
        return end

    async def _wait_for_projector(
        self, consumer: AIOKafkaConsumer, start: dict[TopicPartition, int]
    ) -> None:
        """Return when all that lies before `start` is stored in MongoDB."""
        begin = await consumer.beginning_offsets(list(start))
        behind = {partition for partition, end in start.items() if end > begin[partition]}
        async with admin_client(self._settings) as admin:
            while behind:
                self._hub.behind = f"the projector, on {len(behind)} partitions"
                try:
                    passed = await admin.list_consumer_group_offsets(
                        group_name(self._settings, GROUP), partitions=list(behind)
                    )
                    behind = {
                        partition
                        for partition in behind
                        if partition not in passed or passed[partition].offset < start[partition]
                    }
                except KafkaError as error:
                    log.warning("cannot see how far the projector is: %r", error)
                await asyncio.sleep(CATCH_UP_INTERVAL if behind else 0)

    async def _feed(self, consumer: AIOKafkaConsumer) -> int:
        """Hand on what one poll brings; returns how many events that are."""
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)
        events: list[Observed] = []
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
            self._position[partition] = records[-1].offset + 1
        at_end = all(
            offset >= (consumer.highwater(partition) or 0)
            for partition, offset in self._position.items()
        )
        while True:
            try:
                await self._hub.observe(events, self._read(), at_end=at_end)
                return len(events)
            except UnavailableError as error:
                log.warning("the fan-out waits: %s", error)
                await asyncio.sleep(RETRY_DELAY)

    def _read(self) -> dict[Partition, int]:
        """How far the topics are read that cursors count."""
        return {counted: self._position[each] for each, counted in self._counted.items()}

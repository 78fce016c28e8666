"""The fan-out: reads the tail of the event topics, on every pod, for the hub.

No group: every pod reads every partition from its end and commits nothing. What was in the log
before is in MongoDB: the fan-out waits until the projector has passed the place where it begins.
"""

import asyncio
import logging

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.status.hub import Hub
from services.status.projector import GROUP
from shared.errors import UnavailableError
from shared.events import StatusEvent
from shared.log import open_log
from shared.messaging import admin_client, group_name, read_record
from shared.reading import UnreadableEventError
from shared.settings import Settings
from shared.topics import EVENT_TOPICS

log = logging.getLogger(__name__)

POLL_TIMEOUT_MS = 1000
PAUSE = 0.002
"""Seconds between two polls that brought something: what comes right behind is told in one go."""

CROWD = 20
"""Events in one poll from which on there is more to win by taking the next ones together."""

LONG_PAUSE = 0.01
"""Seconds between two polls in a crowd."""

CATCH_UP_INTERVAL = 0.2
"""Seconds between two looks at how far the projector has come."""

RETRY_DELAY = 1.0
"""Seconds between two tries while MongoDB is away; the tail waits in Kafka."""


class FanOut:
    """Feeds the hub from the tail of the log."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._settings = settings
        self._hub = hub

    async def run(self) -> None:
        """Feed the hub until cancelled."""
        async with open_log(self._settings, EVENT_TOPICS, client_id="fan-out") as (
            consumer,
            partitions,
        ):
            start = await consumer.end_offsets(partitions)
            for partition, offset in start.items():
                consumer.seek(partition, offset)
            await self._wait_for_projector(consumer, start)
            self._hub.behind = None
            while True:
                if (fed := await self._feed(consumer)) > 0:
                    await asyncio.sleep(LONG_PAUSE if fed >= CROWD else PAUSE)

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
        events: list[tuple[StatusEvent, int]] = []
        for records in batches.values():
            for record in records:
                try:
                    logged = read_record(record)
                except UnreadableEventError:
                    continue  # The projector puts it to the dead letters.
                if logged is not None and isinstance(logged.event, StatusEvent):
                    events.append((logged.event, logged.offset))
        while events:
            try:
                await self._hub.observe(events)
                return len(events)
            except UnavailableError as error:
                log.warning("the fan-out waits: %s", error)
                await asyncio.sleep(RETRY_DELAY)
        return 0

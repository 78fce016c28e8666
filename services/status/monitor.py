"""The monitor: counts files and lags once a second, on every pod, for places, rates and metrics."""

import asyncio
import logging
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.status.projection import State
from services.status.projector import GROUP as PROJECTOR
from services.status.store import FileStore
from services.status.traffic import Look, Traffic
from shared.connection import admin_client
from shared.errors import UnavailableError
from shared.log import open_log
from shared.messaging import PROCESSOR_GROUP, group_name
from shared.settings import Settings
from shared.telemetry import FILES, LAG
from shared.topics import EVENT_TOPICS, RETRY_TIERS, UPLOADED, WORK_TOPICS

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks, at least."""

SHARE = 0.05
"""Of the time that may be spent looking: MongoDB takes longer to count millions of files."""

LONGEST = 10.0
"""Seconds between two looks, at most: places in the queue that are older tell little."""

RETRY_DELAY = 1.0
"""Seconds between two tries while Kafka or MongoDB is away; places and rates are unknown then."""

GROUPS = {PROCESSOR_GROUP: WORK_TOPICS, PROJECTOR: EVENT_TOPICS}
"""Which group reads what."""

TOPICS = {topic.name: topic for topics in GROUPS.values() for topic in topics}

Offsets = Mapping[TopicPartition, int]

Lags = dict[str, dict[str, int]]
"""Records that a group has yet to finish, by group and topic."""


class Monitor:
    """Looks at the traffic of one installation."""

    def __init__(self, settings: Settings, store: FileStore) -> None:
        self._settings = settings
        self._store = store
        self.traffic = Traffic()
        self.lags: Lags = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                async with (
                    open_log(self._settings, TOPICS.values(), client_id="monitor") as (
                        log_end,
                        all_,
                    ),
                    admin_client(self._settings) as admin,
                ):
                    while True:
                        begun = time.monotonic()
                        await self._look(log_end, all_, admin)
                        took = time.monotonic() - begun
                        await asyncio.sleep(min(LONGEST, max(INTERVAL, took / SHARE)))
            except (KafkaError, UnavailableError, OSError) as error:
                log.warning("the traffic cannot be seen: %r", error)
                await asyncio.sleep(RETRY_DELAY)

    async def _look(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
        admin: AIOKafkaAdminClient,
    ) -> None:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
        lags: Lags = {}
        for group, topics in GROUPS.items():
            name = group_name(self._settings, group)
            committed = await admin.list_consumer_group_offsets(name)
            passed = begins | {
                place: told.offset for place, told in committed.items() if told.offset >= 0
            }
            lags[group] = self._lag(ends, passed, {topic.name for topic in topics})
        now = time.time()
        files = await self._store.counts()
        retrying = sum(lags[PROCESSOR_GROUP][tier.topic.name] for tier in RETRY_TIERS)
        arrived = sum(end for place, end in ends.items() if self._topic(place) == UPLOADED.name)
        self.traffic.note(Look(at=now, arrived=arrived, retrying=retrying, files=files))
        self.lags = lags
        self._export(files)

    def _lag(self, ends: Offsets, passed: Offsets, topics: set[str]) -> dict[str, int]:
        lag = dict.fromkeys(topics, 0)
        for place, end in ends.items():
            if (topic := self._topic(place)) in topics:
                lag[topic] += max(0, end - passed[place])
        return lag

    def _topic(self, place: TopicPartition) -> str:
        name: str = place.topic
        return name.removeprefix(self._settings.topic_prefix)

    def _export(self, files: Mapping[State, int]) -> None:
        FILES.export({(state.value,): count for state, count in files.items()})
        LAG.export(
            {
                (group, topic): lag
                for group, topics in self.lags.items()
                for topic, lag in topics.items()
            }
        )

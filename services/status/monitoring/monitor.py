"""The monitor: counts files and lags once a second, on every pod, for places, rates and metrics."""

import asyncio
import logging
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.status.monitoring.queue_stats import QueueStats, Sample
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.deadlines import kafka_answers
from shared.errors import MongoUnavailableError
from shared.events.events import utc_now
from shared.events.topics import EVENT_TOPICS, RETRY_TIERS, UPLOADED, WORK_TOPICS
from shared.kafka.connection import admin_client
from shared.kafka.log import beginning_offsets, end_offsets, open_log
from shared.kafka.messaging import PROCESSOR_GROUP, PROJECTOR_GROUP, group_name
from shared.settings import Settings
from shared.telemetry import FILES, LAG

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks, at least."""

SHARE = 0.05
"""Of the time that may be spent looking: MongoDB takes longer to count millions of files."""

LONGEST = 10.0
"""Seconds between two looks, at most: places in the queue that are older tell little."""

FRESH = 30.0
"""Seconds after which a lag says nothing about the present any more."""

GROUPS = {PROCESSOR_GROUP: WORK_TOPICS, PROJECTOR_GROUP: EVENT_TOPICS}
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
        self.queue_stats = QueueStats()
        self._lags: Lags = {}
        self._seen_at = float("-inf")

    @property
    def degraded(self) -> str | None:
        """What is not known at the moment; None if all is."""
        if self._store.is_away:
            return "MongoDB does not answer: files are not counted, lists and searches fail"
        if self.queue_stats.latest(utc_now().timestamp()) is None:
            return "this pod has not counted the files yet, or not for a while"
        return None

    @property
    def lags(self) -> Lags | None:
        """The lags as of some seconds ago at most; None if they are not known."""
        return self._lags if time.monotonic() - self._seen_at <= FRESH else None

    @property
    def unstored(self) -> int | None:
        """Records that the projectors have yet to store; None if that is not known."""
        return None if (lags := self.lags) is None else sum(lags[PROJECTOR_GROUP].values())

    async def run(self, loop: RunningLoop) -> None:
        """Look again and again, until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka does not answer.
        """
        async with (
            open_log(self._settings, TOPICS.values(), client_id="monitor") as (log_end, all_),
            admin_client(self._settings) as admin,
        ):
            while True:
                begun = time.monotonic()
                try:
                    await self._sample(log_end, all_, admin)
                    loop.succeeded()
                except MongoUnavailableError as error:
                    log.warning("files are not counted: %s", error)
                    loop.waits_for("MongoDB")
                took = time.monotonic() - begun
                await asyncio.sleep(min(LONGEST, max(INTERVAL, took / SHARE)))

    async def _sample(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
        admin: AIOKafkaAdminClient,
    ) -> None:
        """Look once; the lags are known also if MongoDB does not answer.

        Raises:
            MongoUnavailableError: the files could not be counted.
        """
        ends = await end_offsets(consumer, partitions)
        begins = await beginning_offsets(consumer, partitions)
        lags: Lags = {}
        for group, topics in GROUPS.items():
            name = group_name(self._settings, group)
            async with kafka_answers(f"what the group {group} has committed"):
                committed = await admin.list_consumer_group_offsets(name)
            passed = begins | {
                place: told.offset for place, told in committed.items() if told.offset >= 0
            }
            lags[group] = self._lag(ends, passed, {topic.name for topic in topics})
        now = utc_now().timestamp()
        self._lags, self._seen_at = lags, time.monotonic()
        LAG.export(
            {(group, name): n for group, topics in lags.items() for name, n in topics.items()}
        )
        files = await self._store.counts()
        retrying = sum(lags[PROCESSOR_GROUP][tier.topic.name] for tier in RETRY_TIERS)
        arrived = sum(end for place, end in ends.items() if self._topic(place) == UPLOADED.name)
        self.queue_stats.note(Sample(at=now, arrived=arrived, retrying=retrying, files=files))
        FILES.export({(state.value,): count for state, count in files.items()})

    def _lag(self, ends: Offsets, passed: Offsets, topics: set[str]) -> dict[str, int]:
        lag = dict.fromkeys(topics, 0)
        for place, end in ends.items():
            if (topic := self._topic(place)) in topics:
                lag[topic] += max(0, end - passed[place])
        return lag

    def _topic(self, place: TopicPartition) -> str:
        name: str = place.topic
        return name.removeprefix(self._settings.topic_prefix)

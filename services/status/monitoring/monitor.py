"""The monitor: measures file counts and lags, at most once a second, on every pod.

Queue positions, rates and metrics are based on them.
"""

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
"""Minimum seconds between two samples."""

SAMPLING_SHARE = 0.05
"""Maximum fraction of the time that sampling may take. MongoDB needs longer to count millions of
files."""

MAX_INTERVAL = 10.0
"""Maximum seconds between two samples. Older queue positions are of little use."""

FRESH = 30.0
"""Seconds after which a measured lag is no longer reported."""

GROUPS = {PROCESSOR_GROUP: WORK_TOPICS, PROJECTOR_GROUP: EVENT_TOPICS}
"""The topics that each consumer group reads."""

TOPICS = {topic.name: topic for topics in GROUPS.values() for topic in topics}

Offsets = Mapping[TopicPartition, int]

Lags = dict[str, dict[str, int]]
"""Records that a group has yet to finish, by group and topic."""


class Monitor:
    """Samples the queue and the lags of one installation."""

    def __init__(self, settings: Settings, store: FileStore) -> None:
        self._settings = settings
        self._store = store
        self.queue_stats = QueueStats()
        self._lags: Lags = {}
        self._seen_at = float("-inf")

    @property
    def degraded(self) -> str | None:
        """Describe which measurements are missing at the moment; None if all are available."""
        if self._store.is_away:
            return "MongoDB is unavailable: files are not counted, lists and searches fail"
        if self.queue_stats.latest(utc_now().timestamp()) is None:
            return "this pod has no recent count of the files"
        return None

    @property
    def lags(self) -> Lags | None:
        """The lags as of at most some seconds ago; None if unknown."""
        return self._lags if time.monotonic() - self._seen_at <= FRESH else None

    @property
    def unstored(self) -> int | None:
        """Number of records that the projectors have yet to store; None if unknown."""
        return None if (lags := self.lags) is None else sum(lags[PROJECTOR_GROUP].values())

    async def run(self, loop: RunningLoop) -> None:
        """Take samples until cancelled.

        Raises:
            KafkaError, KafkaUnavailableError: Kafka is unavailable.
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
                await asyncio.sleep(min(MAX_INTERVAL, max(INTERVAL, took / SAMPLING_SHARE)))

    async def _sample(
        self,
        consumer: AIOKafkaConsumer,
        partitions: list[TopicPartition],
        admin: AIOKafkaAdminClient,
    ) -> None:
        """Take one sample. The lags are updated even if MongoDB is unavailable.

        Raises:
            MongoUnavailableError: the files could not be counted.
        """
        ends = await end_offsets(consumer, partitions)
        begins = await beginning_offsets(consumer, partitions)
        lags: Lags = {}
        for group, topics in GROUPS.items():
            name = group_name(self._settings, group)
            async with kafka_answers(f"the committed offsets of group {group}"):
                committed = await admin.list_consumer_group_offsets(name)
            passed = begins | {
                place: found.offset for place, found in committed.items() if found.offset >= 0
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

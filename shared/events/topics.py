"""The table of topics. No other module contains a topic name."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from shared.events.events import EventType

PARTITIONS = 12
"""Partitions of every topic keyed by file_id. Equal counts keep a file's events on one reader. 12
divides evenly over 1, 2, 3, 4, 6 and 12 pods."""


TIMESTAMP_TYPE = "message.timestamp.type"
"""The topic setting that selects broker or producer timestamps."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic: its events, retention, writers and readers."""

    name: str
    purpose: str
    carries: tuple[EventType, ...]
    partitions: int = PARTITIONS
    compact: bool = False
    is_per_reader: bool = False
    """True if compaction keeps the latest record per reader of a file instead of per file."""
    retention: timedelta | None = None
    """How long a record is kept; None for ever."""
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    """The components that write and read the topic."""

    @property
    def config(self) -> dict[str, str]:
        """Return the topic's configuration for Kafka."""
        # Broker timestamps do not depend on the clocks of the pods.
        config = {TIMESTAMP_TYPE: "LogAppendTime"}
        if self.compact:
            return config | {"cleanup.policy": "compact"}
        retention_ms = -1
        if self.retention is not None:
            retention_ms = int(self.retention.total_seconds() * 1000)
        return config | {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}


UPLOADED = Topic(
    name="file.uploaded",
    purpose="Files to process; a tombstone erases a file's personal data.",
    carries=(EventType.UPLOADED, EventType.REQUEUED),
    compact=True,
    writers=("upload", "status"),
    readers=("processor", "projector", "fan-out"),
)
LIFECYCLE = Topic(
    name="file.lifecycle",
    purpose="The processing history of each file.",
    carries=(
        EventType.PROCESSING,
        EventType.RETRYING,
        EventType.COMPLETED,
        EventType.FAILED,
        EventType.CANCELLED,
        EventType.DELETED,
    ),
    writers=("processor", "status", "upload"),
    readers=("projector", "fan-out"),
)
PROGRESS = Topic(
    name="file.progress",
    purpose="Progress of running attempts.",
    carries=(EventType.PROGRESSED,),
    retention=timedelta(hours=1),
    writers=("processor",),
    readers=("projector", "fan-out"),
)
CONTROL = Topic(
    name="file.control",
    purpose="Cancellation requests, read by every processor; a tombstone removes one once it is "
    "done.",
    carries=(EventType.CANCEL_REQUESTED,),
    compact=True,
    writers=("status", "upload", "processor"),
    readers=("processor", "projector", "fan-out"),
)
ACCESS = Topic(
    name="file.access",
    purpose="Users with whom files are shared; tombstones erase the readers of a deleted file.",
    carries=(EventType.SHARED, EventType.UNSHARED),
    compact=True,
    is_per_reader=True,
    writers=("status",),
    readers=("projector", "fan-out"),
)
COMMANDS = Topic(
    name="file.commands",
    purpose="Audit log of commands, each recorded before it is carried out.",
    carries=(EventType.COMMANDED,),
    partitions=3,
    retention=timedelta(days=365),
    writers=("status", "upload"),
    readers=("an auditor's own tools",),
)
USAGE = Topic(
    name="upload.usage",
    purpose="Recent and current uploads per owner, shared among upload pods to enforce per-owner "
    "limits. Not an event, and without names: owners are hashed.",
    carries=(),
    partitions=1,
    retention=timedelta(days=1),
    writers=("upload",),
    readers=("upload",),
)
CLOCK_PROBES = Topic(
    name="service.clock",
    purpose="Empty records whose acknowledgements show each pod the offset between its clock and "
    "the brokers' clock.",
    carries=(),
    partitions=1,
    retention=timedelta(hours=1),
    writers=("upload", "processor", "status"),
    readers=(),
)
DEAD = Topic(
    name="file.dead",
    purpose="Dead letters: unreadable, unstorable or permanently failed records, with reason and "
    "origin.",
    carries=(EventType.DEAD,),
    partitions=3,
    retention=timedelta(days=30),
    writers=("processor", "projector", "upload", "status"),
    readers=("status",),
)


@dataclass(frozen=True, kw_only=True)
class RetryTier:
    """A retry topic. All its records wait equally long, so the first one is always due next."""

    topic: Topic
    delay: timedelta


def _tier(label: str, delay: timedelta) -> RetryTier:
    topic = Topic(
        name=f"file.retry.{label}",
        purpose=f"Processing attempts and webhook deliveries that wait up to {label}.",
        carries=(EventType.RETRY_SCHEDULED, EventType.WEBHOOK_SCHEDULED),
        retention=timedelta(days=7),
        writers=("processor", "status"),
        readers=("processor", "status"),
    )
    return RetryTier(topic=topic, delay=delay)


RETRY_TIERS = (
    _tier("5s", timedelta(seconds=5)),
    _tier("30s", timedelta(seconds=30)),
    _tier("5m", timedelta(minutes=5)),
    _tier("1h", timedelta(hours=1)),
)

_BY_DELAY = {EventType.RETRY_SCHEDULED, EventType.WEBHOOK_SCHEDULED}
"""Events whose topic depends on their delay."""


def tier_for(wait: timedelta) -> RetryTier:
    """Return the shortest retry tier that covers `wait`, or the longest one."""
    return next((tier for tier in RETRY_TIERS if wait <= tier.delay), RETRY_TIERS[-1])


TOPICS = (
    UPLOADED,
    LIFECYCLE,
    PROGRESS,
    CONTROL,
    ACCESS,
    COMMANDS,
    *(tier.topic for tier in RETRY_TIERS),
    USAGE,
    CLOCK_PROBES,
    DEAD,
)

EVENT_TOPICS = (UPLOADED, LIFECYCLE, PROGRESS, CONTROL, ACCESS)
"""The topics that the projection reads."""
WORK_TOPICS = (UPLOADED, *(tier.topic for tier in RETRY_TIERS))
"""The topics from which the processor consumes work."""


def topic_of(event: EventType) -> Topic:
    """Return the topic that carries an event type.

    Raises:
        KeyError: the topic is not fixed; that of a scheduled event depends on its delay.
    """
    return _TOPIC_OF[event]


def _index(topics: Iterable[Topic]) -> dict[EventType, Topic]:
    return {event: topic for topic in topics for event in topic.carries if event not in _BY_DELAY}


_TOPIC_OF = _index(TOPICS)

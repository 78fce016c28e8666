"""The one table of topics; nobody types a topic's name anywhere else."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from shared.events.events import EventType

PARTITIONS = 12
"""Of every topic keyed by file_id: equal counts keep a file's events on one reader. 12 divides
evenly over 1, 2, 3, 4, 6 and 12 pods."""


TIMESTAMP_TYPE = "message.timestamp.type"
"""The setting by which the brokers, and not the pods, tell the time of each record."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic: what it carries, how long it is kept, and who touches it."""

    name: str
    purpose: str
    carries: tuple[EventType, ...]
    partitions: int = PARTITIONS
    compact: bool = False
    is_per_reader: bool = False
    """Whether the latest record of each reader of a file is kept, instead of the file's."""
    retention: timedelta | None = None
    """How long a record is kept; None keeps it for ever."""
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    """Who writes and reads it today; empty for a topic whose use is agreed and not yet built."""

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration in Kafka's own words."""
        # The brokers' time, whatever the clocks of the pods say.
        config = {TIMESTAMP_TYPE: "LogAppendTime"}
        if self.compact:
            return config | {"cleanup.policy": "compact"}
        retention_ms = -1
        if self.retention is not None:
            retention_ms = int(self.retention.total_seconds() * 1000)
        return config | {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}


UPLOADED = Topic(
    name="file.uploaded",
    purpose="Files to be processed; a tombstone erases a file's personal data.",
    carries=(EventType.UPLOADED, EventType.REQUEUED),
    compact=True,
    writers=("upload", "status"),
    readers=("processor", "projector", "fan-out"),
)
LIFECYCLE = Topic(
    name="file.lifecycle",
    purpose="What became of each file: the history.",
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
    purpose="How far running work has come.",
    carries=(EventType.PROGRESSED,),
    retention=timedelta(hours=1),
    writers=("processor",),
    readers=("projector", "fan-out"),
)
CONTROL = Topic(
    name="file.control",
    purpose="Wishes of users, followed by every processor; a tombstone settles one.",
    carries=(EventType.CANCEL_REQUESTED,),
    compact=True,
    writers=("status", "upload", "processor"),
    readers=("processor", "projector", "fan-out"),
)
ACCESS = Topic(
    name="file.access",
    purpose="With whom files are shared; tombstones erase the readers of a deleted one.",
    carries=(EventType.SHARED, EventType.UNSHARED),
    compact=True,
    is_per_reader=True,
    writers=("status",),
    readers=("projector", "fan-out"),
)
COMMANDS = Topic(
    name="file.commands",
    purpose="Who asked for what, before it was done: for whoever has to know it afterwards.",
    carries=(EventType.COMMANDED,),
    partitions=3,
    retention=timedelta(days=365),
    writers=("status", "upload"),
    readers=("an auditor's own tools",),
)
USAGE = Topic(
    name="upload.usage",
    purpose="What owners have uploaded lately and have under way, told by each upload pod to the "
    "others, where owners are limited. No event, and no names: owners stand there as hashes.",
    carries=(),
    partitions=1,
    retention=timedelta(days=1),
    writers=("upload",),
    readers=("upload",),
)
CLOCK_PROBES = Topic(
    name="service.clock",
    purpose="Records without content: by their acknowledgement each pod measures how far its clock "
    "is from that of Kafka's brokers.",
    carries=(),
    partitions=1,
    retention=timedelta(hours=1),
    writers=("upload", "processor", "status"),
    readers=(),
)
DEAD = Topic(
    name="file.dead",
    purpose="Records that could not be read or stored, or were given up, with reason and origin.",
    carries=(EventType.DEAD,),
    partitions=3,
    retention=timedelta(days=30),
    writers=("processor", "projector", "upload", "status"),
    readers=("status",),
)


@dataclass(frozen=True, kw_only=True)
class RetryTier:
    """A topic whose records all wait equally long, so that its head is always the next one due."""

    topic: Topic
    delay: timedelta


def _tier(label: str, delay: timedelta) -> RetryTier:
    topic = Topic(
        name=f"file.retry.{label}",
        purpose=f"Attempts, at work or at telling of it, that wait up to {label}.",
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
"""Events whose topic depends on how long they wait."""


def tier_for(wait: timedelta) -> RetryTier:
    """The shortest delay tier that covers `wait`, or the longest there is."""
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
"""What the projection is folded from."""
WORK_TOPICS = (UPLOADED, *(tier.topic for tier in RETRY_TIERS))
"""What the processor takes its work from."""


def topic_of(event: EventType) -> Topic:
    """The topic that carries an event.

    Raises:
        KeyError: the event has no fixed topic (that of what is scheduled depends on its delay).
    """
    return _TOPIC_OF[event]


def _index(topics: Iterable[Topic]) -> dict[EventType, Topic]:
    return {event: topic for topic in topics for event in topic.carries if event not in _BY_DELAY}


_TOPIC_OF = _index(TOPICS)

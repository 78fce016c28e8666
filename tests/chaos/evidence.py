"""The evidence of a run: the log, MongoDB, consumer lag, and the faults injected."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from services.status.projection.projection import Status
from services.status.store.store import FileStore
from shared.events.events import AnyEvent, FileDead
from shared.events.topics import DEAD, LIFECYCLE, UPLOADED, WORK_TOPICS, Topic
from shared.kafka.connection import admin_client
from shared.kafka.log import open_log
from shared.kafka.messaging import group_name, read_record
from shared.settings import Settings
from tests.chaos.faults import Hit
from tests.chaos.plan import PlannedFile
from tests.chaos.views import Views
from tests.journeys.gapless.checker import Observation


class Origin(NamedTuple):
    """Position of a record."""

    topic: str
    partition: int
    offset: int


class Logged(NamedTuple):
    """An event in the log."""

    event: AnyEvent
    offset: int
    appended: datetime | None = None
    """Time at which it was appended to the log, by Kafka's clock."""

    @property
    def time(self) -> datetime:
        """Time of the append; if unknown, the time of the event itself."""
        return self.appended or self.event.time


@dataclass(frozen=True)
class Problem:
    """A broken promise."""

    what: str
    file_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything by which a run is judged."""

    accepted: Mapping[str, PlannedFile]
    """The files answered with 202, by id."""
    histories: Mapping[str, Sequence[Logged]]
    """Each file's events in log order, uploads first."""
    statuses: Mapping[str, Status]
    """The states in MongoDB."""
    hits: Sequence[Hit]
    unreadable: Sequence[Origin] = ()
    """Positions of records that are not events or cannot be stored."""
    letters: Sequence[FileDead] = ()
    fallen: Sequence[str] = ()
    """Services that ended without a fault."""
    logs: Mapping[str, int] = field(default_factory=dict)
    """Bytes that each service logged."""
    lag: int = 0
    """Records that the group `processor` has not finished."""
    drift: str = ""
    """Differences between log and MongoDB according to the replay; empty if there are none."""
    unknown: Sequence[str] = ()
    """Files answered with 202, and with 404 a moment later."""
    observations: Sequence[Observation] = ()
    """Updates that watchers received over SSE and WebSocket."""
    views: Views = field(default_factory=Views)
    """Responses of the services over HTTP at the end."""


@dataclass
class Feed:
    """Everything submitted during a run."""

    accepted: dict[str, PlannedFile] = field(default_factory=dict)
    unreadable: list[Origin] = field(default_factory=list)
    """Positions of records that are not events or cannot be stored."""
    unknown: list[str] = field(default_factory=list)


async def collect(
    settings: Settings,
    feed: Feed,
    hits: Sequence[Hit],
    *,
    observations: Sequence[Observation],
) -> Evidence:
    """Read the evidence from Kafka and MongoDB."""
    histories: dict[str, list[Logged]] = {}
    for topic in (UPLOADED, LIFECYCLE):
        for logged in await read_topic(settings, topic, without=frozenset(feed.unreadable)):
            histories.setdefault(logged.event.file_id, []).append(logged)
    letters = [logged.event for logged in await read_topic(settings, DEAD)]
    store = FileStore(settings)
    statuses = {status.file_id: status async for status in store.scan()}
    store.close()
    return Evidence(
        accepted=feed.accepted,
        histories=histories,
        statuses=statuses,
        hits=hits,
        unreadable=feed.unreadable,
        letters=[letter for letter in letters if isinstance(letter, FileDead)],
        lag=await group_lag(settings),
        drift=await _drift(settings),
        unknown=feed.unknown,
        observations=observations,
    )


async def read_topic(
    settings: Settings, topic: Topic, *, without: frozenset[Origin] = frozenset()
) -> list[Logged]:
    """Return all events of a topic, in order within each partition.

    Args:
        without: records that are not part of the history.
    """
    events: list[Logged] = []
    async with open_log(settings, (topic,), client_id="chaos") as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while [each for each in partitions if await consumer.position(each) < ends[each]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    if Origin(record.topic, record.partition, record.offset) in without:
                        continue
                    try:
                        logged = read_record(record)
                    except ValueError:
                        continue  # A record that is not an event.
                    if logged is not None:
                        appended = datetime.fromtimestamp(record.timestamp / 1000, UTC)
                        events.append(Logged(logged.event, logged.offset, appended))
    return events


async def group_lag(settings: Settings) -> int:
    """Return the number of records that the group `processor` has not finished."""
    async with (
        open_log(settings, WORK_TOPICS, client_id="chaos") as (consumer, partitions),
        admin_client(settings) as admin,
    ):
        ends = await consumer.end_offsets(partitions)
        committed = await admin.list_consumer_group_offsets(
            group_name(settings, "processor"), partitions=partitions
        )
    return sum(end - max(committed[each].offset, 0) for each, end in ends.items())


async def _drift(settings: Settings) -> str:
    """Return the output of `replay --verify` if it finds a difference."""
    environment = {
        f"WAYBILL_{name.upper()}": str(value)
        for name, value in settings.model_dump(exclude_none=True).items()
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.status.replay", "--verify"),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode else ""

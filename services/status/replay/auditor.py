"""The auditor: finds and mends documents that are not what the log says, and finds stuck files.

A round takes a random place of one partition: the files that were uploaded there, and what the log
has of them, which is found by time. A file is judged once its end is in what was read, or in its
document. What differs is looked at again a moment later, since the projector may just be at it, and
is then folded anew from the whole of its log and replaced (`refold.py`).
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import BaseModel

from services.status.monitoring.queue_stats import QueueStats
from services.status.monitoring.stuck import GRACE, StuckFile, stuck
from services.status.projection import shares
from services.status.projection.projection import FIRST_RUN, FileState, Status, fold
from services.status.replay.drift import differing_fields
from services.status.replay.refold import LogTooLongError, Refold, Refolder
from services.status.settings import StatusSettings
from services.status.store.access import EVERYTHING, Visibility
from services.status.store.query import Query, Sort
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.events.events import FileRequeued, FileUploaded, StatusEvent, Timestamp, utc_now
from shared.events.ids import file_id_age
from shared.events.storable import FIRST_MOMENT
from shared.events.topics import ACCESS, LIFECYCLE, PARTITIONS, UPLOADED
from shared.kafka.log import beginning_offsets, end_offsets, offsets_at, open_log, read_range
from shared.kafka.messaging import read_status_event
from shared.telemetry import AUDITED, STUCK

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two rounds; one takes less than a second."""

SAMPLE = 100
"""Uploads of one round."""

MAX_READ = 20_000
"""Records of the lifecycle that one round reads at most, ~10 MB; few of them are parsed."""

SLACK = timedelta(seconds=60)
"""How far the clocks of two machines may be apart, and how late the projector may be."""

SETTLING = 2.0
"""Seconds until what differs is looked at again."""

MAX_SILENT = 1000
"""Files of one status that are looked at, longest silent first: more tell an operator no more."""

LATER_RUNS = 5
"""Files with later runs that one round compares: all of the log since their upload is read."""

KEPT = 20
"""Files that differed which are remembered, to be looked at by somebody."""


class DriftedFile(BaseModel):
    """A file whose document is not what the log says."""

    file_id: str
    found_at: Timestamp
    fields: list[str]
    """What differs; empty if the file is not in MongoDB at all."""
    mended: bool = False
    """Whether the document was replaced by a fresh fold of the log."""


@dataclass
class Findings:
    """What the rounds since the pod's start have found."""

    compared: int = 0
    mended: int = 0
    drifted: deque[DriftedFile] = field(default_factory=lambda: deque(maxlen=KEPT))


@dataclass
class _Sample:
    """Some files as the log has them."""

    events: dict[str, list[tuple[StatusEvent, int]]]
    read_until: datetime
    """Of what happened before this, everything was read."""
    since: dict[str, datetime] = field(default_factory=dict)
    """By file, a time since which Kafka has all of it."""
    later: dict[str, datetime] = field(default_factory=dict)
    """When files were uploaded of which the log keeps a later run's record alone."""
    shared_until: int = 0
    """Of whom files are shared with, everything before this offset was read."""

    def folded(self) -> dict[str, Status]:
        return {
            file_id: status
            for file_id, events in self.events.items()
            if (status := fold(None, events)) is not None
        }


class Auditor:
    """Audits one installation."""

    def __init__(
        self,
        settings: StatusSettings,
        store: FileStore,
        queue_stats: QueueStats,
        refolder: Refolder | None = None,
    ) -> None:
        """Args:
        refolder: mends what differs; without it that is only noted.
        """
        self._settings = settings
        self._store = store
        self._queue_stats = queue_stats
        self._refolder = refolder
        self.findings = Findings()

    async def run(self, loop: RunningLoop) -> None:
        """Audit a random partition now and then, until cancelled.

        Raises:
            KafkaError, UnavailableError: Kafka or MongoDB does not answer.
        """
        while True:
            await asyncio.sleep(INTERVAL)
            await self.audit(random.randrange(PARTITIONS))  # noqa: S311 - a sample, no secret
            STUCK.set(len(await self.stuck()))
            loop.succeeded()

    async def audit(self, partition: int) -> None:
        """Compare a sample of one partition's files; remember what differs, and mend it.

        Raises:
            KafkaError: Kafka does not answer.
            UnavailableError: MongoDB does not answer.
        """
        topics = (UPLOADED, LIFECYCLE, ACCESS)
        async with open_log(self._settings, topics, client_id="auditor") as (consumer, places):
            uploads, lifecycle, access = (
                TopicPartition(self._settings.topic_prefix + topic.name, partition)
                for topic in topics
            )
            assert {uploads, lifecycle, access} <= set(places)  # noqa: S101 - one count for all
            sample = await _read_sample(consumer, uploads, lifecycle, access)
        expected = sample.folded()
        suspicious = await self._differing(expected, sample)
        if suspicious:
            await asyncio.sleep(SETTLING)
            suspicious = await self._differing(
                {file_id: expected[file_id] for file_id in suspicious}, sample
            )
        refolds = await self._refolds(
            {file_id: sample.since[file_id] for file_id in suspicious}
            | await self._of_later_runs(expected, sample)
        )
        for file_id, refold in refolds.items():
            if file_id in suspicious and refold.differs is None:
                del suspicious[file_id]  # It lacks what cannot be stored, and nothing else.
            elif file_id not in suspicious and refold.differs is not None and refold.may_mend:
                suspicious[file_id] = refold.differs
        for file_id, fields in suspicious.items():
            log.error("%s has drifted from the log: %s", file_id, ", ".join(fields) or "missing")
            mended = await self._mend(file_id, refolds.get(file_id))
            drifted = DriftedFile(file_id=file_id, found_at=utc_now(), fields=fields, mended=mended)
            self.findings.drifted.append(drifted)
            self.findings.mended += mended
            AUDITED.labels(outcome="different" if fields else "missing").inc()
            AUDITED.labels(outcome="mended").inc(mended)
        compared = expected.keys() | refolds.keys()
        AUDITED.labels(outcome="equal").inc(len(compared - suspicious.keys()))
        self.findings.compared += len(compared)

    async def fold_anew(self, file_id: str) -> tuple[Refold | None, bool]:
        """Fold one file anew and mend its document.

        Returns:
            The fold, None if the log is too long for it here; and whether the document is now
            what the fold says.

        Raises:
            KafkaError, UnavailableError: Kafka or MongoDB does not answer.
        """
        now = utc_now()
        age = file_id_age(file_id, now)
        uploaded = FIRST_MOMENT if age is None else now - timedelta(seconds=max(age, 0.0))
        refold = (await self._refolds({file_id: max(uploaded, FIRST_MOMENT)})).get(file_id)
        if await self._mend(file_id, refold):
            self.findings.mended += 1
            AUDITED.labels(outcome="mended").inc()
            return refold, True
        return refold, refold is not None and refold.differs is None

    async def _refolds(self, since: Mapping[str, datetime]) -> dict[str, Refold]:
        """Files folded anew, to be compared and mended; none if too much would have to be read."""
        if self._refolder is None or not since:
            return {}
        try:
            return await self._refolder.refold(since)
        except LogTooLongError as error:
            log.warning("%d files are not folded anew: %s", len(since), error)
            return {}

    async def _mend(self, file_id: str, refold: Refold | None) -> bool:
        return (
            self._refolder is not None
            and refold is not None
            and await self._refolder.mend(file_id, refold)
        )

    async def _of_later_runs(
        self, expected: Mapping[str, Status], sample: _Sample
    ) -> dict[str, datetime]:
        """Some files that have ended in a later run, and when they were uploaded.

        What the sample has of them is not all, so they are compared with a fold of all of it.
        """
        if self._refolder is None:
            return {}
        stored = await self._store.get_many([*expected, *sample.later])
        ended = [
            file_id
            for file_id, found in stored.items()
            if found.run != FIRST_RUN and found.status.is_terminal and found.deleted_at is None
        ]
        chosen = random.sample(ended, min(LATER_RUNS, len(ended)))
        return {file_id: (sample.later | sample.since)[file_id] for file_id in chosen}

    async def stuck(self, visible_to: Visibility = EVERYTHING) -> list[StuckFile]:
        """Files that do not go on, longest silent first.

        Raises:
            UnavailableError: MongoDB does not answer.
        """
        now = utc_now()
        found: list[StuckFile] = []
        for state in (FileState.PROCESSING, FileState.PENDING):
            query = Query(
                status=frozenset({state}), visible_to=visible_to, updated_before=now - GRACE
            )
            page = await self._store.find(
                query, sort=Sort.EARLIEST_CHANGE_FIRST, limit=MAX_SILENT, after=None
            )
            silent = page.items
            if state is FileState.PROCESSING:  # A list has no histories, which tell the limits.
                known = await self._store.get_many([each.file_id for each in silent], visible_to)
                silent = list(known.values())
            looked_at = (
                stuck(
                    status,
                    now,
                    time_limit=self._settings.time_limit,
                    moving=self._queue_stats.is_moving(now.timestamp()),
                )
                for status in silent
            )
            found += filter(None, looked_at)
        return sorted(found, key=lambda file: file.silent_since)

    async def _differing(
        self, expected: dict[str, Status], sample: _Sample
    ) -> dict[str, list[str]]:
        """The fields that differ, by file; none for a file that is missing."""
        stored = await self._store.get_many(expected)
        differing: dict[str, list[str]] = {}
        for file_id, wanted in expected.items():
            found = stored.get(file_id)
            if found is None:
                if wanted.created_at is not None and wanted.created_at < sample.read_until - SLACK:
                    differing[file_id] = []
            elif _is_judged(wanted, found, sample) and found != wanted:
                differing[file_id] = differing_fields(found, wanted)
        return differing


def _is_judged(wanted: Status, found: Status, sample: _Sample) -> bool:
    """Whether what was read of the log is all that the document can know.

    A later run replaces the record of the upload, and what happens meanwhile is not in the sample.
    """
    if found.run != FIRST_RUN or found.deleted_at is not None:
        return False
    if shares.end(found.shares) > sample.shared_until:
        return False
    ended = found.status.is_terminal and found.updated_at and found.updated_at < sample.read_until
    return bool(wanted.status.is_terminal or ended)


async def _read_sample(
    consumer: AIOKafkaConsumer,
    uploads: TopicPartition,
    lifecycle: TopicPartition,
    access: TopicPartition,
) -> _Sample:
    begin = (await beginning_offsets(consumer, [uploads]))[uploads]
    ends = await end_offsets(consumer, [uploads, lifecycle, access])
    start = random.randint(begin, max(begin, ends[uploads] - SAMPLE))  # noqa: S311
    sample = _Sample({}, utc_now())
    earliest = sample.read_until
    async for record in read_range(consumer, uploads, start, min(ends[uploads], start + SAMPLE)):
        event = read_status_event(record)
        if isinstance(event, FileRequeued):
            sample.later[event.file_id] = event.data.created_at
        if isinstance(event, FileUploaded):
            sample.events[event.file_id] = [(event, record.offset)]
            # Kafka finds by its own time: the clock of who told of the upload may be wrong.
            appended = datetime.fromtimestamp(record.timestamp / 1000, UTC)
            begun = sample.since[event.file_id] = min(event.time, appended)
            earliest = min(earliest, begun)
    moment = int((earliest - SLACK).timestamp() * 1000)
    found = await offsets_at(consumer, (lifecycle, access), moment)
    first, shared = found[lifecycle], found[access]
    if not sample.events or first is None:
        return sample
    sample.shared_until = ends[access]
    if shared is not None:
        sample.shared_until = min(ends[access], shared.offset + MAX_READ)
        async for record in read_range(consumer, access, shared.offset, sample.shared_until):
            event = read_status_event(record)
            if event is not None and event.file_id in sample.events:
                sample.events[event.file_id].append((event, record.offset))
    last = min(ends[lifecycle], first.offset + MAX_READ)
    known = {file_id.encode() for file_id in sample.events}
    async for record in read_range(consumer, lifecycle, first.offset, last):
        if record.key in known and (event := read_status_event(record)) is not None:
            sample.events[event.file_id].append((event, record.offset))
        if last < ends[lifecycle]:
            sample.read_until = datetime.fromtimestamp(record.timestamp / 1000, UTC) - SLACK
    return sample

"""The auditor: finds and repairs documents that differ from the log, and finds stuck files.

A round starts at a random offset of one partition. It reads the files that were uploaded there and
their other events, which it finds by time. A file is compared once its outcome is in the records
that were read, or in its document. Files that differ are compared again two seconds later, since
the projector may be updating them. They are then refolded from their whole log and replaced
(`refold.py`).
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
"""Seconds between two rounds. A round takes less than a second."""

SAMPLE = 100
"""Uploads in one round."""

MAX_READ = 20_000
"""Maximum lifecycle records that one round reads, about 10 MB. Few of them are parsed."""

SLACK = timedelta(seconds=60)
"""Maximum clock difference between two machines, and maximum lag of the projector."""

SETTLING = 2.0
"""Seconds before files that differ are compared again."""

MAX_SILENT = 1000
"""Files per status that are checked for being stuck, longest silent first. A longer list would not
help an operator."""

LATER_RUNS = 5
"""Files with later runs that one round compares. Each requires reading the whole log since its
upload."""

KEPT = 20
"""Drifted files that are remembered for operators."""


class DriftedFile(BaseModel):
    """A file whose document differs from the log."""

    file_id: str
    found_at: Timestamp
    fields: list[str]
    """The fields that differ; empty if the file is missing from MongoDB."""
    mended: bool = False
    """True if the document was replaced by a fresh fold of the log."""


@dataclass
class Findings:
    """Results of all audit rounds since the pod started."""

    compared: int = 0
    repaired: int = 0
    drifted: deque[DriftedFile] = field(default_factory=lambda: deque(maxlen=KEPT))


@dataclass
class _Sample:
    """Some files as the log describes them."""

    events: dict[str, list[tuple[StatusEvent, int]]]
    read_until: datetime
    """All events before this time were read."""
    since: dict[str, datetime] = field(default_factory=dict)
    """By file, a time from which on Kafka has all its events."""
    later: dict[str, datetime] = field(default_factory=dict)
    """Upload times of files for which the log keeps only the record of a later run."""
    shared_until: int = 0
    """All sharing events before this offset were read."""

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
        """Audit with the given dependencies.

        Args:
            refolder: repairs files that differ; without it, they are only reported.
        """
        self._settings = settings
        self._store = store
        self._queue_stats = queue_stats
        self._refolder = refolder
        self.findings = Findings()

    async def run(self, loop: RunningLoop) -> None:
        """Audit a random partition once a minute, until cancelled.

        Raises:
            KafkaError, UnavailableError: Kafka or MongoDB is unavailable.
        """
        while True:
            await asyncio.sleep(INTERVAL)
            await self.audit(random.randrange(PARTITIONS))  # noqa: S311 - a sample, no secret
            STUCK.set(len(await self.stuck()))
            loop.succeeded()

    async def audit(self, partition: int) -> None:
        """Compare a sample of one partition's files; report and repair those that differ.

        Raises:
            KafkaError: Kafka is unavailable.
            UnavailableError: MongoDB is unavailable.
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
                del suspicious[file_id]  # It lacks only records that cannot be stored.
            elif file_id not in suspicious and refold.differs is not None and refold.may_repair:
                suspicious[file_id] = refold.differs
        for file_id, fields in suspicious.items():
            log.error("%s has drifted from the log: %s", file_id, ", ".join(fields) or "missing")
            repaired = await self._repair(file_id, refolds.get(file_id))
            drifted = DriftedFile(
                file_id=file_id, found_at=utc_now(), fields=fields, mended=repaired
            )
            self.findings.drifted.append(drifted)
            self.findings.repaired += repaired
            AUDITED.labels(outcome="different" if fields else "missing").inc()
            AUDITED.labels(outcome="mended").inc(repaired)
        compared = expected.keys() | refolds.keys()
        AUDITED.labels(outcome="equal").inc(len(compared - suspicious.keys()))
        self.findings.compared += len(compared)

    async def refold(self, file_id: str) -> tuple[Refold | None, bool]:
        """Refold one file and repair its document.

        Returns:
            The fold, or None if the log is too long for it here; and True if the document now
                matches it.

        Raises:
            KafkaError, UnavailableError: Kafka or MongoDB is unavailable.
        """
        now = utc_now()
        age = file_id_age(file_id, now)
        uploaded = FIRST_MOMENT if age is None else now - timedelta(seconds=max(age, 0.0))
        refold = (await self._refolds({file_id: max(uploaded, FIRST_MOMENT)})).get(file_id)
        if await self._repair(file_id, refold):
            self.findings.repaired += 1
            AUDITED.labels(outcome="mended").inc()
            return refold, True
        return refold, refold is not None and refold.differs is None

    async def _refolds(self, since: Mapping[str, datetime]) -> dict[str, Refold]:
        """Return fresh folds of the files, or none if too much of the log would have to be read."""
        if self._refolder is None or not since:
            return {}
        try:
            return await self._refolder.refold(since)
        except LogTooLongError as error:
            log.warning("%d files were not refolded: %s", len(since), error)
            return {}

    async def _repair(self, file_id: str, refold: Refold | None) -> bool:
        return (
            self._refolder is not None
            and refold is not None
            and await self._refolder.repair(file_id, refold)
        )

    async def _of_later_runs(
        self, expected: Mapping[str, Status], sample: _Sample
    ) -> dict[str, datetime]:
        """Return some files that finished in a later run, with the times of their uploads.

        The sample lacks some of their events, so they are compared with a refold of their whole
        log.
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
        """Return stuck files, longest silent first.

        Raises:
            UnavailableError: MongoDB is unavailable.
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
            if state is FileState.PROCESSING:  # Lists lack the histories, which contain the limits.
                known = await self._store.get_many([each.file_id for each in silent], visible_to)
                silent = list(known.values())
            checked = (
                stuck(
                    status,
                    now,
                    time_limit=self._settings.time_limit,
                    moving=self._queue_stats.is_moving(now.timestamp()),
                )
                for status in silent
            )
            found += filter(None, checked)
        return sorted(found, key=lambda file: file.silent_since)

    async def _differing(
        self, expected: dict[str, Status], sample: _Sample
    ) -> dict[str, list[str]]:
        """Return the fields that differ, by file; an empty list for a missing file."""
        stored = await self._store.get_many(expected)
        differing: dict[str, list[str]] = {}
        for file_id, wanted in expected.items():
            found = stored.get(file_id)
            if found is None:
                if wanted.created_at is not None and wanted.created_at < sample.read_until - SLACK:
                    differing[file_id] = []
            elif _is_comparable(wanted, found, sample) and found != wanted:
                differing[file_id] = differing_fields(found, wanted)
        return differing


def _is_comparable(wanted: Status, found: Status, sample: _Sample) -> bool:
    """Return True if the records that were read include everything the document can contain.

    A later run replaces the record of the upload, and the sample lacks the events in between.
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
            # Kafka searches by its own timestamps. The clock of the upload pod may be wrong.
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

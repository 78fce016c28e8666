"""Refold a few files from the log and repair their documents in place.

The documents are read first, then the log to its end. The fold therefore includes everything that
the documents include, unless Kafka has removed it. The projector's own code folds into a temporary
collection, so that records that MongoDB rejects are left out in the same way. Documents are
replaced by compare-and-set: a concurrent change wins, and the next audit compares the file again.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiokafka import TopicPartition

from services.status.projection import shares
from services.status.projection.projection import Status
from services.status.projector import Projector
from services.status.replay.drift import differing_fields
from services.status.store.store import FileStore
from services.status.store.stored_documents import UnstorableError
from shared.deadlines import within
from shared.errors import MongoUnavailableError, UnavailableError
from shared.events.events import EventType, first_file_id, new_file_id, utc_now
from shared.events.facts import DeadCode
from shared.events.storable import FIRST_MOMENT
from shared.events.topics import EVENT_TOPICS
from shared.kafka.consuming import DeadLetterWriter, note_error
from shared.kafka.log import end_offsets, offsets_at, open_partitions, read_range
from shared.kafka.messaging import KafkaRecord, topic_names
from shared.kafka.publishing import Publisher, partition_of_key
from shared.settings import Settings

log = logging.getLogger(__name__)

MAX_READ = 200_000
"""Maximum records of one partition's topics that a refold reads: about ten seconds. `waybill
replay` handles files that need more."""

SLACK = timedelta(seconds=60)
"""Maximum clock difference between two machines."""

WAIT_MS = 50

SHADOW_PREFIX = "files_refold_"
"""Prefix of the temporary collections. An id from the time of creation follows."""

ABANDONED_AFTER = timedelta(hours=1)
"""Age above which a temporary collection is abandoned: its pod was killed."""

DROP_TIMEOUT = 5.0
"""Seconds for MongoDB to drop a collection, which takes milliseconds. Otherwise the next refold
does."""


class LogTooLongError(Exception):
    """A refold would exceed its limit of records; `waybill replay` has none."""


@dataclass
class Refold:
    """The stored document of a file and a fresh fold of its log."""

    live: Status | None
    folded: Status
    rejected: list[tuple[KafkaRecord, str, DeadCode]] = field(default_factory=list)
    """Records that MongoDB rejects, with the reasons."""

    @property
    def differs(self) -> list[str] | None:
        """The fields that differ; empty if the document is missing, None if it is equal."""
        if self.live is None:
            return []
        return differing_fields(self.live, self.folded) or None

    @property
    def may_repair(self) -> bool:
        """True if the fold includes everything that the document includes.

        It may not: Kafka keeps progress for one hour, and a wrong clock at the time of the upload
        hides the records before it.
        """
        live, folded = self.live, self.folded
        if folded.created_at is None or folded.deleted_at is not None:
            return False
        if live is None:
            return True
        lines = {line.id for line in folded.history}
        return (
            live.deleted_at is None
            and live.position <= folded.position
            and shares.end(live.shares) <= shares.end(folded.shares)
            and all(line.id in lines for line in live.history)
        )


class _CollectedLetters:
    """Collects the dead letters of a fold."""

    def __init__(self) -> None:
        self.letters: list[tuple[KafkaRecord, str, DeadCode]] = []

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        self.letters.append((record, reason, code))


class Refolder:
    """Refolds files and repairs their documents."""

    def __init__(self, settings: Settings, store: FileStore, publisher: Publisher) -> None:
        self._settings = settings
        self._store = store
        self._letters = DeadLetterWriter(publisher, source="/auditor")

    async def refold(self, since: Mapping[str, datetime]) -> dict[str, Refold]:
        """Refold files of one partition.

        Args:
            since: by file, the time of its upload.

        Raises:
            LogTooLongError: too much of the log would have to be read.
            KafkaError, UnavailableError: Kafka or MongoDB is unavailable.
        """
        if not since:
            return {}
        live = await self._store.get_many(since)
        records = await self._records(since)
        abandoned_since = first_file_id(utc_now() - ABANDONED_AFTER)
        await self._store.drop_older(SHADOW_PREFIX, SHADOW_PREFIX + abandoned_since)
        shadow = self._store.sibling(SHADOW_PREFIX + new_file_id())
        collected = _CollectedLetters()
        try:
            await Projector(shadow, letters=collected).project(records)
            folded = await shadow.get_many(since)
        finally:
            await _drop(shadow)
        return {
            file_id: Refold(
                live.get(file_id),
                _with_lost_lines(status, live.get(file_id)),
                [each for each in collected.letters if _file_of(each[0]) == file_id],
            )
            for file_id, status in folded.items()
        }

    async def repair(self, file_id: str, refold: Refold) -> bool:
        """Replace the document of a file with the fold; return True if it was replaced.

        Records that MongoDB rejects are dead-lettered, since the projector may have skipped them
        silently.

        Raises:
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        if refold.differs is None or not refold.may_repair:
            return False
        if refold.live is None:
            await self._store.remove_unreadable([file_id])
        try:
            if await self._store.save([(refold.live, refold.folded)]):
                return False
        except UnstorableError as error:  # The temporary collection accepted it a moment ago.
            note_error("auditor", error, file_id)
            return False
        for record, reason, code in refold.rejected:
            await self._letters.write(record, reason, code)
        log.warning("%s was repaired from the log", file_id)
        return True

    async def _records(self, since: Mapping[str, datetime]) -> list[KafkaRecord]:
        """Return all records of these files, in the order of their timestamps."""
        number = partition_of_key(next(iter(since)))
        partitions = [
            TopicPartition(name, number) for name in topic_names(self._settings, EVENT_TOPICS)
        ]
        moment = max(min(since.values()) - SLACK, FIRST_MOMENT)
        found: list[KafkaRecord] = []
        async with open_partitions(
            self._settings, partitions, client_id="auditor", wait_ms=WAIT_MS
        ) as consumer:
            begins = await offsets_at(consumer, partitions, int(moment.timestamp() * 1000))
            ends = await end_offsets(consumer, partitions)
            begin = {each: at.offset for each, at in begins.items() if at is not None}
            total = sum(ends[each] - offset for each, offset in begin.items())
            if total > MAX_READ:
                raise LogTooLongError(
                    f"{total} records would have to be read; the limit is {MAX_READ}"
                )
            for partition, offset in begin.items():
                async for record in read_range(consumer, partition, offset, ends[partition]):
                    if _file_of(record) in since:
                        found.append(record)  # noqa: PERF401 - extend takes no async generator
        found.sort(key=lambda record: getattr(record, "timestamp", 0))
        return found


async def _drop(shadow: FileStore) -> None:
    """Drop a collection, since its documents contain names. On failure, a later refold drops it."""
    try:
        async with within(DROP_TIMEOUT, MongoUnavailableError()):
            await shadow.drop()
    except UnavailableError as error:
        log.warning("collection %s will be dropped later: %s", shadow.name, error)
    finally:
        shadow.close()


def _file_of(record: KafkaRecord) -> str:
    """Return the file of a record. The key of a reader's record has the file before the colon."""
    return (record.key or b"").decode(errors="replace").partition(":")[0]


def _with_lost_lines(folded: Status, live: Status | None) -> Status:
    """Return the fold with history lines that only the document still has.

    Of a file with later runs, Kafka keeps only the record of the latest. The log therefore lacks
    the lines of the earlier ones.
    """
    if live is None or folded.run == 1:
        return folded
    known = {line.id for line in folded.history}
    queued: Collection[EventType] = (EventType.UPLOADED, EventType.REQUEUED)
    lost = [
        line
        for line in live.history
        if line.type in queued and line.run < folded.run and line.id not in known
    ]
    if not lost:
        return folded
    lines = sorted((*lost, *folded.history), key=lambda line: line.order)
    return folded.model_copy(update={"history": tuple(lines)})

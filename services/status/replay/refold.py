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
"""Records of one partition's topics that a refold reads at most: some ten seconds. Files for which
more must be read are left to `waybill replay`."""

SLACK = timedelta(seconds=60)
"""How far the clocks of two machines may be apart."""

WAIT_MS = 50

SHADOWS = "files_refold_"
"""How the names of the collections begin that are folded into; an id made at that time follows."""

ABANDONED_AFTER = timedelta(hours=1)
"""Age from which on such a collection belongs to nobody: its pod was killed."""

DROPS_WITHIN = 5.0
"""Seconds for MongoDB to drop one, or the next refold does; it takes milliseconds."""


class LogTooLongError(Exception):
    """A refold would read more of the log than it may; `waybill replay` reads all of it."""


@dataclass
class Refold:
    """The stored document of a file and a fresh fold of its log."""

    live: Status | None
    folded: Status
    put_aside: list[tuple[KafkaRecord, str, DeadCode]] = field(default_factory=list)
    """Records that MongoDB rejects, with the reasons."""

    @property
    def differs(self) -> list[str] | None:
        """The fields that differ, none of a document that is missing; None if it is equal."""
        if self.live is None:
            return []
        return differing_fields(self.live, self.folded) or None

    @property
    def may_mend(self) -> bool:
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


class _Collected:
    """Keeps what a fold puts aside."""

    def __init__(self) -> None:
        self.letters: list[tuple[KafkaRecord, str, DeadCode]] = []

    async def write(self, record: KafkaRecord, reason: str, code: DeadCode) -> None:
        self.letters.append((record, reason, code))


class Refolder:
    """Folds files anew."""

    def __init__(self, settings: Settings, store: FileStore, publisher: Publisher) -> None:
        self._settings = settings
        self._store = store
        self._letters = DeadLetterWriter(publisher, source="/auditor")

    async def refold(self, since: Mapping[str, datetime]) -> dict[str, Refold]:
        """Fold files of one partition anew.

        Args:
            since: by file, when it was uploaded.

        Raises:
            LogTooLongError: too much of the log would have to be read.
            KafkaError, UnavailableError: Kafka or MongoDB does not answer.
        """
        if not since:
            return {}
        live = await self._store.get_many(since)
        records = await self._records(since)
        abandoned_since = first_file_id(utc_now() - ABANDONED_AFTER)
        await self._store.drop_older(SHADOWS, SHADOWS + abandoned_since)
        shadow = self._store.sibling(SHADOWS + new_file_id())
        collected = _Collected()
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

    async def mend(self, file_id: str, refold: Refold) -> bool:
        """Replace the document of a file with the fold; return True if it was replaced.

        Records that MongoDB rejects are dead-lettered, since the projector may have skipped them
        silently.

        Raises:
            UnavailableError: Kafka or MongoDB does not answer.
        """
        if refold.differs is None or not refold.may_mend:
            return False
        if refold.live is None:
            await self._store.remove_unreadable([file_id])
        try:
            if await self._store.save([(refold.live, refold.folded)]):
                return False
        except UnstorableError as error:  # It was stored a moment ago, in another collection.
            note_error("auditor", error, file_id)
            return False
        for record, reason, code in refold.put_aside:
            await self._letters.write(record, reason, code)
        log.warning("%s was folded anew from the log", file_id)
        return True

    async def _records(self, since: Mapping[str, datetime]) -> list[KafkaRecord]:
        """All that the log has of these files, in the order in which it came."""
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
                    f"{total} records would have to be read, and {MAX_READ} may be"
                )
            for partition, offset in begin.items():
                async for record in read_range(consumer, partition, offset, ends[partition]):
                    if _file_of(record) in since:
                        found.append(record)  # noqa: PERF401 - extend takes no async generator
        found.sort(key=lambda record: getattr(record, "timestamp", 0))
        return found


async def _drop(shadow: FileStore) -> None:
    """Remove a collection whose documents name people; what cannot be now, a later refold does."""
    try:
        async with within(DROPS_WITHIN, MongoUnavailableError()):
            await shadow.drop()
    except UnavailableError as error:
        log.warning("the collection %s is dropped later: %s", shadow.name, error)
    finally:
        shadow.close()


def _file_of(record: KafkaRecord) -> str:
    """The file of a record; of one reader's it is the part of the key before the colon."""
    return (record.key or b"").decode(errors="replace").partition(":")[0]


def _with_lost_lines(folded: Status, live: Status | None) -> Status:
    """The fold with what only the document knows still: of a file with later runs Kafka keeps the
    record of the latest upload alone, so the lines of the earlier ones are not in the log."""
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

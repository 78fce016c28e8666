"""Orphans: files in the blob store of which no event tells.

A process that ends between storing a file and recording it leaves one; its client got no 202. The
log decides: what no record of `file.uploaded` names, long after it was stored, will never be named.
How far the sweep has come is kept in the blob store, so that no pod does it all over again.
"""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from services.upload.intake.idempotency import KEPT
from shared import outbox
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.blobs.places import SOURCES, file_id_of, source_key
from shared.events.events import file_id_age, first_file_id
from shared.events.topics import UPLOADED
from shared.kafka.log import POLL_TIMEOUT_MS, open_log, position, seek_to
from shared.settings import Settings

log = logging.getLogger(__name__)

ORPHANED = KEPT + timedelta(hours=3)
"""Age from which on a file without an event is an orphan: until a key is forgotten, which takes an
hour after its time is over, a repeat may yet publish its files."""

PROGRESS = "sweeps/sources"
"""The blob that tells up to which time of storing the sweep has come."""

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before everything."""

AT_ONCE = 50_000
"""Files that one pass looks at: their ids are in memory."""

LONGEST = timedelta(days=1)
"""Time from the making of a file's id to the end of its upload; after more it is not looked for."""

CLOCKS = timedelta(hours=1)
"""What the clocks of pods and broker may differ by."""

FEW = 100
"""Orphans that are believed in any case. Where most of more files are unknown to the log, it is the
log that is lost, and deleting what it told of would make that worse."""


class Orphans:
    """The sweep of files that nobody will hear of."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs

    async def sweep(self) -> int:
        """Delete the orphans; returns how many.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
            KafkaUnavailableError, KafkaError: Kafka does not.
        """
        swept = 0
        while True:
            end, files = await self._stored_until(datetime.now(UTC) - ORPHANED)
            unknown = await self._without_event(files) if files else set()
            if len(unknown) > max(FEW, len(files) // 2):
                log.error(
                    "the log does not know %d of %d files: is it the right one? None is deleted",
                    len(unknown),
                    len(files),
                )
                return swept
            for file_id in unknown:
                await self._blobs.delete(files[file_id])
            swept += len(unknown)
            if files:
                await self._blobs.put(PROGRESS, end.isoformat().encode())
            if len(files) < AT_ONCE:
                return swept

    async def _swept_to(self) -> datetime:
        try:
            return datetime.fromisoformat((await self._blobs.get(PROGRESS)).decode())
        except BlobMissingError:
            return BEGINNING

    async def _stored_until(self, end: datetime) -> tuple[datetime, dict[str, str]]:
        """The files not looked at yet, stored up to `end` or to where they are enough, and their
        keys."""
        begin = await self._swept_to()
        there = await self._blobs.stored(SOURCES, after=source_key(first_file_id(begin - LONGEST)))
        there |= await self._blobs.packed(begin, end)
        found = sorted((blob.at, key) for key, blob in there.items() if begin < blob.at <= end)
        if len(found) > AT_ONCE:
            end = found[AT_ONCE - 1][0]
        return end, {file_id_of(key): key for stored, key in found if stored <= end}

    async def _without_event(self, ids: Collection[str]) -> set[str]:
        """Those that neither the outbox nor the log has."""
        kept = await self._blobs.keys(f"{outbox.UPLOADS}/")
        unknown = set(ids).difference(map(outbox.file_id_of, kept))
        now = datetime.now(UTC)
        oldest = max((file_id_age(each, now) or 0.0 for each in unknown), default=0.0)
        made = now - CLOCKS - timedelta(seconds=oldest)
        async with open_log(self._settings, (UPLOADED,), client_id="upload-sweep") as (
            consumer,
            partitions,
        ):
            ends = await seek_to(consumer, partitions, made)
            while unknown and [p for p in partitions if await position(consumer, p) < ends[p]]:
                for records in (await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)).values():
                    unknown.difference_update(
                        # A foreign record with any key must not end the sweep.
                        (record.key or b"").decode(errors="replace")
                        for record in records
                    )
        return unknown

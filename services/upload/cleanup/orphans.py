"""Delete orphans: files in the blob store that have no event.

A process that dies between storing a file and recording it leaves an orphan. Its client got no 202.
The log decides: a file that no `file.uploaded` record names, long after it was stored, is an
orphan. The progress of the sweep is stored in the blob store and shared by all pods.
"""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from services.upload.intake.idempotency import KEY_TTL
from shared import outbox
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.blobs.places import SOURCES, file_id_of, source_key
from shared.events.events import file_id_age, first_file_id
from shared.events.topics import UPLOADED
from shared.kafka.log import POLL_TIMEOUT_MS, open_log, position, seek_to
from shared.settings import Settings

log = logging.getLogger(__name__)

ORPHAN_AGE = KEY_TTL + timedelta(hours=3)
"""Age after which a file without an event is an orphan. Until its idempotency key is removed, up to
an hour after the key expired, a repeat may still publish it."""

PROGRESS = "sweeps/sources"
"""The blob with the storage time up to which files have been checked."""

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""A time before any file was stored."""

MAX_FILES = 50_000
"""Maximum files per pass, because their ids are in memory."""

MAX_UPLOAD_TIME = timedelta(days=1)
"""Maximum time between the creation of a file's id and the end of its upload. Files that took
longer are not checked."""

CLOCK_TOLERANCE = timedelta(hours=1)
"""Maximum difference between the clocks of pods and brokers."""

MAX_DOUBTFUL = 100
"""Orphans that are deleted in any case. If more than half of a larger number of files are missing
from the log, the log itself was probably lost. Deleting the files would make that worse."""


class Orphans:
    """Sweeps files that were stored but never recorded."""

    def __init__(self, settings: Settings, blobs: BlobStore) -> None:
        self._settings = settings
        self._blobs = blobs

    async def sweep(self) -> int:
        """Delete the orphans.

        Returns:
            The number of deleted files.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
            KafkaUnavailableError, KafkaError: Kafka does not answer.
        """
        swept = 0
        while True:
            end, files = await self._stored_until(datetime.now(UTC) - ORPHAN_AGE)
            unknown = await self._without_event(files) if files else set()
            if len(unknown) > max(MAX_DOUBTFUL, len(files) // 2):
                log.error(
                    "no orphans deleted: %d of %d files have no event; is this the right log?",
                    len(unknown),
                    len(files),
                )
                return swept
            for file_id in unknown:
                await self._blobs.delete(files[file_id])
            swept += len(unknown)
            if files:
                await self._blobs.put(PROGRESS, end.isoformat().encode())
            if len(files) < MAX_FILES:
                return swept

    async def _swept_to(self) -> datetime:
        try:
            return datetime.fromisoformat((await self._blobs.get(PROGRESS)).decode())
        except BlobMissingError:
            return BEGINNING

    async def _stored_until(self, end: datetime) -> tuple[datetime, dict[str, str]]:
        """Return the next files to check.

        Returns:
            The storage time that the pass covers, at most `end`, and the keys by file id.
        """
        begin = await self._swept_to()
        there = await self._blobs.stored(
            SOURCES, after=source_key(first_file_id(begin - MAX_UPLOAD_TIME))
        )
        there |= await self._blobs.packed(begin, end)
        found = sorted((blob.at, key) for key, blob in there.items() if begin < blob.at <= end)
        if len(found) > MAX_FILES:
            end = found[MAX_FILES - 1][0]
        return end, {file_id_of(key): key for stored, key in found if stored <= end}

    async def _without_event(self, ids: Collection[str]) -> set[str]:
        """Return the ids that neither the outbox nor the log contains."""
        kept = await self._blobs.keys(f"{outbox.UPLOADS}/")
        unknown = set(ids).difference(map(outbox.file_id_of, kept))
        now = datetime.now(UTC)
        oldest = max((file_id_age(each, now) or 0.0 for each in unknown), default=0.0)
        made = now - CLOCK_TOLERANCE - timedelta(seconds=oldest)
        async with open_log(self._settings, (UPLOADED,), client_id="upload-sweep") as (
            consumer,
            partitions,
        ):
            ends = await seek_to(consumer, partitions, made)
            while unknown and [p for p in partitions if await position(consumer, p) < ends[p]]:
                for records in (await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS)).values():
                    unknown.difference_update(
                        # A foreign record with an arbitrary key must not end the sweep.
                        (record.key or b"").decode(errors="replace")
                        for record in records
                    )
        return unknown

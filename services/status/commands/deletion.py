"""Deletion: a file is deleted once Kafka has the event, and its data is erased soon after.

`file.deleted` stays in the log forever, so no replay restores the file. Everything else is removed:
the upload and its artifacts in the blob store; the name, owner and labels, which only
`file.uploaded` contains; and the readers, by tombstones. The document records that data must be
erased, so that any pod resumes the work of one that was killed. The outcome of an attempt that was
running marks the document again, so that data it stored meanwhile is erased too.
"""

import asyncio
import logging

from services.status.commands.cancellation import Cancellations
from services.status.commands.publish import SOURCE, publish_and_see
from services.status.live.hub import Hub
from services.status.projection.projection import Status, apply
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.blobs.blobs import BlobStore
from shared.blobs.places import results_prefix
from shared.deadlines import blob_store_answers
from shared.errors import LegalHoldError, UnavailableError
from shared.events.events import DeletedData, FileDeleted
from shared.events.topics import ACCESS, UPLOADED
from shared.kafka.consuming import note_error
from shared.kafka.publishing import Publisher

log = logging.getLogger(__name__)

LEGAL_HOLD = "legal_hold"
"""The label that protects a file from deletion, whatever its value."""

ERASE_INTERVAL = 1.0
"""Seconds between two checks for data to erase. An index holds only those files."""

ERASE_BATCH = 100
"""Files that are erased per check."""


class NotErasedError(Exception):
    """Some deleted files could not be erased although all services respond."""


def check_deletable(status: Status) -> None:
    """Check that a file may be deleted.

    Raises:
        LegalHoldError: a label of the file forbids its deletion.
    """
    if LEGAL_HOLD in status.labels:
        raise LegalHoldError(f"The file has the label {LEGAL_HOLD!r} and cannot be deleted.")


class Deletions:
    """Deletes files permanently."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self._cancellations = Cancellations(hub, publisher)

    async def delete(self, status: Status, *, reason: str) -> Status:
        """Stop the work on a file and delete it.

        Returns:
            The remaining status, once Kafka has the event.

        Raises:
            LegalHoldError: a label of the file forbids its deletion.
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        check_deletable(status)
        if not status.status.is_terminal:
            await self._cancellations.request(status, reason=reason)
        data = DeletedData(run=status.run, reason=reason)
        event = FileDeleted.of(status.file_id, data, source=SOURCE)
        await publish_and_see(
            self._hub, self._publisher, event, seen=lambda now: now.deleted_at is not None
        )
        log.info("%s was deleted: %r", status.file_id, reason)
        return apply(status, event, offset=0)


class Eraser:
    """Erases the stored data of deleted files."""

    def __init__(self, store: FileStore, blobs: BlobStore, publisher: Publisher) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher

    async def run(self, loop: RunningLoop) -> None:
        """Erase until cancelled; failures are retried indefinitely.

        Raises:
            UnavailableError: MongoDB, Kafka or the blob store is unavailable.
            NotErasedError: some files could not be erased for another reason; the others were.
        """
        while True:
            failed = 0
            for status in await self._store.to_erase(ERASE_BATCH):
                try:
                    await self._erase(status)
                except UnavailableError:
                    raise
                except Exception as error:  # It stays marked and does not block others.
                    note_error("eraser", error, status.file_id)
                    failed += 1
            if failed:
                raise NotErasedError(f"{failed} deleted files could not be erased")
            loop.succeeded()
            await asyncio.sleep(ERASE_INTERVAL)

    async def _erase(self, status: Status) -> None:
        async with blob_store_answers():
            results = await self._blobs.keys(results_prefix(status.file_id))
        for key in (status.source, *results):
            async with blob_store_answers():
                await self._blobs.delete(key)
        await self._publisher.forget(status.file_id, UPLOADED)
        for share in status.shares:
            await self._publisher.forget(status.file_id, ACCESS, share.key)
        await self._store.erased(status)
        log.info("%s was erased", status.file_id)

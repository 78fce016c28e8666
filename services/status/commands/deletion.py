"""Deletion: a file is gone once Kafka knows it, and is erased soon after.

`file.deleted` stays in the log for ever, so no replay brings the file back. All else goes: the
upload and its artifacts in the blob store, and the name, the owner and the labels, which only
`file.uploaded` carries, and those with whom it was shared, by tombstones. What is to be erased is
noted in the document, so that any pod goes on where one was killed; and an attempt that was under
way marks it anew by its outcome, so that what it has stored meanwhile goes as well.
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
"""The label that keeps a file from being deleted, whatever its value is."""

ERASE_INTERVAL = 1.0
"""Seconds between two looks at what is to be erased: an index has just those."""

ERASE_AT_ONCE = 100
"""Files that are erased between two looks."""


class NotErasedError(Exception):
    """Some deleted files could not be erased, and no part is away."""


def check_deletable(status: Status) -> None:
    """Raises:
    LegalHoldError: a label of the file forbids its deletion.
    """
    if LEGAL_HOLD in status.labels:
        raise LegalHoldError(f"The file has the label {LEGAL_HOLD!r} and must not be deleted.")


class Deletions:
    """Deletes files for good."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self._cancellations = Cancellations(hub, publisher)

    async def delete(self, status: Status, *, reason: str) -> Status:
        """Delete a file; returns once Kafka knows, with what is left of it. Work on it is stopped.

        Raises:
            LegalHoldError: a label of the file forbids it.
            UnavailableError: Kafka or MongoDB does not answer.
        """
        check_deletable(status)
        if not status.status.is_terminal:
            await self._cancellations.request(status, reason=reason)
        data = DeletedData(run=status.run, reason=reason)
        event = FileDeleted.of(status.file_id, data, source=SOURCE)
        await publish_and_see(
            self._hub, self._publisher, event, seen=lambda now: now.deleted_at is not None
        )
        log.info("%s is deleted: %r", status.file_id, reason)
        return apply(status, event, offset=0)


class Eraser:
    """Erases what is stored of deleted files."""

    def __init__(self, store: FileStore, blobs: BlobStore, publisher: Publisher) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher

    async def run(self, loop: RunningLoop) -> None:
        """Erase until cancelled; what fails is tried again for as long as it takes.

        Raises:
            UnavailableError: MongoDB, Kafka or the blob store does not answer.
            NotErasedError: files could not be erased for another reason; the others are.
        """
        while True:
            failed = 0
            for status in await self._store.to_erase(ERASE_AT_ONCE):
                try:
                    await self._erase(status)
                except UnavailableError:
                    raise
                except Exception as error:  # It stays marked, and holds up no other.
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
        log.info("%s is erased", status.file_id)

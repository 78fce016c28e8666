"""Files that were accepted while Kafka was unavailable: read from the outbox in the blob store.

They are not in the log yet, so neither MongoDB nor this pod's tail has them, but their clients
received a 202. Before the API answers 404 for an id, it therefore looks in the outbox. Commands for
such files are stored there as well, and are published before the upload.
"""

import asyncio
import time
from collections import OrderedDict

from services.status.commands.cancellation import check_cancellable, ended, requested
from services.status.commands.publish import SOURCE
from services.status.projection.projection import Status, fold
from shared.background.supervision import RunningLoop
from shared.blobs.blobs import BlobStore
from shared.deadlines import blob_store_answers
from shared.errors import OverloadedError
from shared.events.events import (
    DeletedData,
    Event,
    FileCancelled,
    FileCommanded,
    FileDeleted,
    StatusEvent,
    is_status_event,
)
from shared.kafka.publishing import Publisher
from shared.outbox import (
    UPLOADS,
    is_file_id,
    keep_command,
    relay_commands,
    waiting_commands,
    waiting_upload,
)

MAX_LOOKUPS = 16
"""Concurrent lookups in the blob store for unknown ids."""

MAX_QUEUED = 1000
"""Lookups that may wait for their turn. Beyond that the API answers 503: a 404 without a lookup
could be wrong."""

REMEMBERED_FOR = 30.0
"""Seconds for which a file that was found is assumed to be in the outbox. A command follows its
lookup."""

MAX_REMEMBERED = 10_000
"""Ids of found files that are cached, about 100 bytes each."""

CHECK_INTERVAL = 5.0
"""Seconds between two checks for stored commands. The upload relay publishes them too, so only
commands remain that were stored while their upload was being published."""

ACTIVE_FOR = 60.0
"""Seconds after the outbox was last seen in use during which files may be in transit from it."""


class WaitingUploads:
    """Finds files in the outbox, and stores commands for them."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)
        self._queued = 0
        self._found: OrderedDict[str, float] = OrderedDict()
        self._active_at = float("-inf")

    async def find(self, file_id: str) -> Status | None:
        """Return a file whose upload is in the outbox, with its stored commands applied, or None.

        Raises:
            OverloadedError: too many lookups of unknown ids are queued.
            BlobStoreUnavailableError: the blob store is unavailable.
        """
        if not is_file_id(file_id):
            return None
        if self._queued >= MAX_QUEUED:
            raise OverloadedError("Too many requests for unknown files; retry later.")
        self._queued += 1
        try:
            async with self._turns, blob_store_answers():
                upload = await waiting_upload(self._blobs, file_id)
                if upload is None:
                    return None
                kept = await waiting_commands(self._blobs, file_id)
        finally:
            self._queued -= 1
        self._remember(file_id)
        events: list[StatusEvent] = [upload]
        # The cancellation may lose to another outcome: the log decides. Until then the file is
        # cancelling.
        events += [
            each for each in kept if is_status_event(each) and not isinstance(each, FileCancelled)
        ]
        return fold(None, [(event, 0) for event in events])

    def holds(self, file_id: str) -> bool:
        """Return True if a file was found in the outbox in the last `REMEMBERED_FOR` seconds."""
        return time.monotonic() - self._found.get(file_id, float("-inf")) < REMEMBERED_FOR

    @property
    def is_active(self) -> bool:
        """True if files may be in transit from the outbox to Kafka."""
        return time.monotonic() - self._active_at < ACTIVE_FOR

    async def cancel(self, status: Status, command: FileCommanded) -> Status:
        """Store a request to cancel; return the status with the request applied.

        Raises:
            NotCancellableError: the file has finished.
            BlobStoreUnavailableError: the blob store is unavailable.
        """
        check_cancellable(status)
        reason = command.data.reason
        request = requested(status, reason=reason)
        await self._keep(command, request, ended(status, reason=reason))
        return fold(status, [(request, 0)]) or status

    async def delete(self, status: Status, command: FileCommanded) -> Status:
        """Store a deletion, which also stops the work; return the remaining status.

        Raises:
            BlobStoreUnavailableError: the blob store is unavailable.
        """
        reason = command.data.reason
        data = DeletedData(run=status.run, reason=reason)
        deletion = FileDeleted.of(status.file_id, data, source=SOURCE)
        stop = (requested(status, reason=reason), ended(status, reason=reason))
        await self._keep(command, *stop, deletion)
        return fold(status, [(deletion, 0)]) or status

    async def relay(self, publisher: Publisher) -> None:
        """Publish the stored commands.

        Raises:
            UnavailableError: Kafka or the blob store is unavailable.
        """
        async with blob_store_answers():
            waiting = await self._blobs.keys(f"{UPLOADS}/")
        if waiting:
            self._active_at = time.monotonic()
        await relay_commands(self._blobs, publisher)

    async def run(self, publisher: Publisher, loop: RunningLoop) -> None:
        """Publish stored commands periodically, until cancelled.

        Raises:
            UnavailableError: Kafka or the blob store is unavailable.
        """
        while True:
            await self.relay(publisher)
            loop.succeeded()
            await asyncio.sleep(CHECK_INTERVAL)

    async def _keep(self, command: FileCommanded, *events: Event) -> None:
        await keep_command(
            self._blobs, command.file_id, command.data.command_id, [command, *events]
        )

    def _remember(self, file_id: str) -> None:
        self._active_at = self._found[file_id] = time.monotonic()
        self._found.move_to_end(file_id)
        if len(self._found) > MAX_REMEMBERED:
            self._found.popitem(last=False)

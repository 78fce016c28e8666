"""Cancellation: a request is an event in `file.control`; a file that no attempt holds ends at once.

A processor stops the work it is doing and publishes the outcome. A file needs no processor if no
attempt holds it: it waits in the queue or in a delay tier, or the consumer group of the processors
has no members. The status service then publishes the same `file.cancelled` itself, with the id that
a processor would use. The first outcome in the log counts, so a file that starts at the same moment
still gets only one; see `docs/decisions/0021-a-cancelled-file-needs-no-processor.md`.
"""

import asyncio
import logging

from services.status.commands.publish import SOURCE, publish_and_see
from services.status.live.hub import Hub
from services.status.projection.projection import FileState, Status, apply
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.errors import NotCancellableError, UnavailableError
from shared.events.events import (
    CancelledData,
    CancelRequestedData,
    FileCancelled,
    FileCancelRequested,
)
from shared.kafka.messaging import PROCESSOR_GROUP, is_group_empty
from shared.kafka.publishing import Publisher
from shared.settings import Settings

log = logging.getLogger(__name__)

SETTLE_INTERVAL = 1.0
"""Seconds between two checks for requests that nobody has carried out. An index holds only
those."""

SETTLE_BATCH = 200
"""Files of one status that are cancelled per check."""

REASON = "cancel requested; its reason was not stored"
"""The reason of an outcome if an earlier version of this service stored the request without one."""


def check_cancellable(status: Status) -> None:
    """Check that a file can be cancelled.

    Raises:
        NotCancellableError: the file has finished.
    """
    if status.status.is_terminal:
        raise NotCancellableError(
            f"The file is {status.status}; only pending or processing files can be cancelled.",
            members={"file_status": status.status},
        )


def requested(status: Status, *, reason: str) -> FileCancelRequested:
    """Return the request to stop the current run of a file."""
    data = CancelRequestedData(run=status.run, reason=reason, ended_runs=status.run - 1)
    return FileCancelRequested.of(status.file_id, data, source=SOURCE)


def ended(status: Status, *, reason: str) -> FileCancelled:
    """Return the outcome of the current run of a file, with the id that a processor would use.

    It names the attempt that was stopped, or the one that will not start.
    """
    attempt = status.attempt + (status.status is FileState.PENDING)
    data = CancelledData(
        run=status.run,
        attempt=attempt,
        max_attempts=max(attempt, status.max_attempts or 1),
        reason=reason,
    )
    return FileCancelled.of(status.file_id, data, source=SOURCE)


class Cancellations:
    """Cancels the work on files."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher

    async def request(self, status: Status, *, reason: str) -> Status:
        """Request that the work on a file stops; return its status once Kafka has the request.

        A waiting file is already cancelled when this returns. Its processor stops a running
        attempt.

        Raises:
            NotCancellableError: the file has finished.
            UnavailableError: Kafka is unavailable.
        """
        check_cancellable(status)
        request = requested(status, reason=reason)
        await self._publisher.publish(request)
        log.info("cancel requested for run %d of %s: %r", status.run, status.file_id, reason)
        asked = apply(status, request, offset=0)
        if status.status is not FileState.PENDING:
            return asked
        try:
            return await self.end(status, reason=reason) or asked
        except UnavailableError as error:  # The request is in Kafka; the settler retries.
            log.warning("cancellation of %s will be retried: %s", status.file_id, error)
            return asked

    async def end(self, status: Status, *, reason: str) -> Status | None:
        """Publish the outcome of a run that no attempt holds; return the status known afterwards.

        Raises:
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        event = ended(status, reason=reason)

        def is_over(now: Status) -> bool:
            return now.run > status.run or (now.run == status.run and now.status.is_terminal)

        await publish_and_see(self._hub, self._publisher, event, seen=is_over)
        current = await self._hub.current(status.file_id)
        return current.status if current else None


class Settler:
    """Cancels files whose request no processor will carry out.

    A pod may die between the request and the outcome. All processors may be gone while the log says
    that they are processing a file.
    """

    def __init__(
        self, settings: Settings, store: FileStore, hub: Hub, cancellations: Cancellations
    ) -> None:
        self._settings = settings
        self._store = store
        self._hub = hub
        self._cancellations = cancellations

    async def run(self, loop: RunningLoop) -> None:
        """Cancel such files until cancelled itself; failures are retried indefinitely.

        Raises:
            UnavailableError: MongoDB or Kafka is unavailable.
        """
        while True:
            await self.settle()
            loop.succeeded()
            await asyncio.sleep(SETTLE_INTERVAL)

    async def settle(self) -> int:
        """Cancel the files that no attempt holds; return their number.

        Raises:
            UnavailableError: MongoDB or Kafka is unavailable.
        """
        wanted = await self._store.to_cancel(FileState.PENDING, SETTLE_BATCH)
        begun = await self._store.to_cancel(FileState.PROCESSING, SETTLE_BATCH)
        # The commit of its record precedes an attempt, so a group exists for every started attempt.
        deserted = bool(begun) and await is_group_empty(self._settings, PROCESSOR_GROUP)
        settled = 0
        for stored in [*wanted, *(begun if deserted else ())]:
            # The file may have started or finished since. The tail is more current than MongoDB.
            current = await self._hub.current(stored.file_id)
            status = current.status if current else stored
            if status.cancel_run != status.run or status.deleted_at is not None:
                continue
            if status.status is FileState.PENDING or deserted:
                await self._cancellations.end(status, reason=status.cancel_reason or REASON)
                settled += 1
        return settled

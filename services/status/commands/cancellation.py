"""Cancellation: a request is a fact in `file.control`; a file that nobody holds ends at once.

A processor stops what it works on and publishes the end. A file that no attempt holds needs no
processor: it waits in the queue or in a delay tier, or the group of the processors has no member.
The status service then publishes the same `file.cancelled` itself, with the id that a processor
would give it. The first end in the log counts, so an attempt that begins at the same moment cannot
make two of it; see `docs/decisions/0021-a-cancelled-file-needs-no-processor.md`.
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
"""Seconds between two looks for requests that nobody has carried out: an index has just those."""

SETTLED_AT_ONCE = 200
"""Files that are ended between two looks."""

REASON = "cancel requested; its reason was not stored"
"""The reason of an end whose request an earlier version of this service stored without one."""


def check_cancellable(status: Status) -> None:
    """Raises:
    NotCancellableError: the file has ended.
    """
    if status.status.is_terminal:
        raise NotCancellableError(
            f"The file is {status.status}: there is no work that could be cancelled.",
            members={"file_status": status.status},
        )


def requested(status: Status, *, reason: str) -> FileCancelRequested:
    """The request to stop the present run of a file."""
    data = CancelRequestedData(run=status.run, reason=reason, ended_runs=status.run - 1)
    return FileCancelRequested.of(status.file_id, data, source=SOURCE)


def ended(status: Status, *, reason: str) -> FileCancelled:
    """The end of the present run of a file; it has the id that a processor would give it.

    It names the attempt that was stopped, or the one that will not be made.
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
    """Stops the work on files."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher

    async def request(self, status: Status, *, reason: str) -> Status:
        """Have the work on a file stopped; returns its status once Kafka has the request.

        A file that waits has ended when this returns. Work that has begun is stopped by its
        processor.

        Raises:
            NotCancellableError: the file has ended.
            UnavailableError: Kafka does not answer.
        """
        check_cancellable(status)
        request = requested(status, reason=reason)
        await self._publisher.publish(request)
        log.info("%s run %d is to be cancelled: %r", status.file_id, status.run, reason)
        asked = apply(status, request, offset=0)
        if status.status is not FileState.PENDING:
            return asked
        try:
            return await self.end(status, reason=reason) or asked
        except UnavailableError as error:  # The request is in Kafka: it will be settled.
            log.warning("the end of %s waits: %s", status.file_id, error)
            return asked

    async def end(self, status: Status, *, reason: str) -> Status | None:
        """Publish the end of a run that no attempt holds; returns what this pod knows afterwards.

        Raises:
            UnavailableError: Kafka or MongoDB does not answer.
        """
        event = ended(status, reason=reason)

        def is_over(now: Status) -> bool:
            return now.run > status.run or (now.run == status.run and now.status.is_terminal)

        await publish_and_see(self._hub, self._publisher, event, seen=is_over)
        current = await self._hub.current(status.file_id)
        return current.status if current else None


class Settler:
    """Ends the files whose request to cancel no processor will carry out.

    A pod may die between the request and the end, and all processors may be gone while the log
    says that they work on a file.
    """

    def __init__(
        self, settings: Settings, store: FileStore, hub: Hub, cancellations: Cancellations
    ) -> None:
        self._settings = settings
        self._store = store
        self._hub = hub
        self._cancellations = cancellations

    async def run(self, loop: RunningLoop) -> None:
        """Settle until cancelled; what fails is tried again for as long as it takes.

        Raises:
            UnavailableError: MongoDB or Kafka does not answer.
        """
        while True:
            await self.settle()
            loop.succeeded()
            await asyncio.sleep(SETTLE_INTERVAL)

    async def settle(self) -> int:
        """End the files that no attempt holds; returns how many.

        Raises:
            UnavailableError: MongoDB or Kafka does not answer.
        """
        wanted = await self._store.to_cancel(FileState.PENDING, SETTLED_AT_ONCE)
        begun = await self._store.to_cancel(FileState.PROCESSING, SETTLED_AT_ONCE)
        # An attempt begins after its commit, so there is a group for each that has begun.
        deserted = bool(begun) and await is_group_empty(self._settings, PROCESSOR_GROUP)
        settled = 0
        for stored in [*wanted, *(begun if deserted else ())]:
            # Meanwhile it may have ended, or begun: the tail knows more than MongoDB.
            current = await self._hub.current(stored.file_id)
            status = current.status if current else stored
            if status.cancel_run != status.run or status.deleted_at is not None:
                continue
            if status.status is FileState.PENDING or deserted:
                await self._cancellations.end(status, reason=status.cancel_reason or REASON)
                settled += 1
        return settled

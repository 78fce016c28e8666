"""New runs: a finished file goes through the pipeline again.

The topic is compacted and may keep only the latest record of a file. A new run therefore repeats
all facts of the upload under the next number. The event id is derived from file and run. Concurrent
requests therefore start a single new run, on any number of pods.
"""

import asyncio
import logging

from services.status.commands.publish import SOURCE, publish_and_see
from services.status.live.hub import Hub
from services.status.projection.projection import FileState, Status
from shared.errors import CatchingUpError, NotRetryableError
from shared.events.events import FileRequeued, RequeuedData
from shared.kafka.publishing import Publisher

log = logging.getLogger(__name__)


def next_run(status: Status, *, force: bool, reason: str) -> RequeuedData:
    """Return the event data that starts a new run of a file.

    Args:
        force: also start a new run of a completed file.

    Raises:
        NotRetryableError: the file is unfinished, or completed without `force`.
        CatchingUpError: this pod has the file's outcome, but not yet its upload.
    """
    if not status.status.is_terminal:
        raise _refusal(status, "it has not finished yet; cancel it first to start a new run.")
    if status.status is FileState.COMPLETED and not force:
        raise _refusal(status, "its result is available; send force=true to process it again.")
    if status.created_at is None:
        raise CatchingUpError(f"This pod has not yet read the upload of {status.file_id}; retry.")
    return RequeuedData(
        run=status.run + 1,
        blob=status.source,
        charset=status.charset,
        created_at=status.created_at,
        reason=reason,
        **status.model_dump(
            include={
                "content_type",
                "size",
                "sha256",
                "name",
                "tenant",
                "owner",
                "labels",
                "batch_id",
            }
        ),
    )


def _refusal(status: Status, why: str) -> NotRetryableError:
    return NotRetryableError(
        f"The file is {status.status}: {why}", members={"file_status": status.status}
    )


class Runs:
    """Starts new runs, one at a time for each file."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def start(self, status: Status, *, force: bool, reason: str) -> None:
        """Start a new run of a file; return once Kafka has it.

        Concurrent requests for the same file share one new run.

        Raises:
            NotRetryableError: the file is unfinished, or completed and `force` is not set.
            UnavailableError: Kafka or MongoDB is unavailable, or this pod lags.
        """
        if status.file_id not in self._starting:
            # Another request may have started a run since `status` was read.
            current = await self._hub.current(status.file_id)
            if current is not None and current.status.run > status.run:
                return
        starting = self._starting.get(status.file_id)
        if starting is None:
            data = next_run(status, force=force, reason=reason)
            event = FileRequeued.of(status.file_id, data, source=SOURCE)
            starting = asyncio.create_task(self._start(event))
            self._starting[status.file_id] = starting
            starting.add_done_callback(lambda _: self._starting.pop(status.file_id))
        await asyncio.shield(starting)  # Other requests may wait for it too.

    async def _start(self, event: FileRequeued) -> None:
        run = event.data.run
        await publish_and_see(self._hub, self._publisher, event, seen=lambda now: now.run >= run)
        log.info("started run %d of %s: %r", run, event.file_id, event.data.reason)

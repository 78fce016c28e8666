"""New runs: a file that has ended goes through the pipeline once more.

A new run is a full copy of the upload's facts with the next number, since the topic is compacted:
of a file it may keep the latest record only. The event's id follows from file and run, so however
many ask at once, on however many pods, one new run comes of it.
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
    """What starts a file anew.

    Args:
        force: work on a completed file again.

    Raises:
        NotRetryableError: the file is under way, or completed.
        CatchingUpError: this pod knows what came of the file, and not yet what it is.
    """
    if not status.status.is_terminal:
        raise _refusal(status, "it is under way already; cancel it first to start it anew.")
    if status.status is FileState.COMPLETED and not force:
        raise _refusal(status, "its result is there; say force=true to work on it again.")
    if status.created_at is None:
        raise CatchingUpError(f"The upload of {status.file_id} is still on its way: ask again.")
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
    """Starts new runs, one of a file at a time."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def start(self, status: Status, *, force: bool, reason: str) -> None:
        """Start a file anew; returns once Kafka has the new run.

        Who asks while the file is being started anew gets the same new run.

        Raises:
            NotRetryableError: the file is under way, or completed and `force` is not set.
            UnavailableError: Kafka or MongoDB does not answer, or this pod lags.
        """
        if status.file_id not in self._starting:
            # Another request may have started it since `status` was read.
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
        await asyncio.shield(starting)  # Others may wait for it as well.

    async def _start(self, event: FileRequeued) -> None:
        run = event.data.run
        await publish_and_see(self._hub, self._publisher, event, seen=lambda now: now.run >= run)
        log.info("%s starts run %d: %r", event.file_id, run, event.data.reason)

"""Sharing: another user of a file's tenant may read it, until the share is revoked.

Both commands are events in Kafka before the API answers, and take effect on each pod when its tail
delivers them. Access is checked against the state that the pod holds, so the lag of the projector
does not matter.
"""

import logging

from services.status.commands.publish import SEEN_TIMEOUT, SOURCE, publish_and_see
from services.status.live.filter import Filter
from services.status.live.hub import Hub
from services.status.projection.projection import Status, apply
from services.status.projection.shares import end, share_of
from services.status.store.access import EVERYTHING, Visibility
from shared.errors import BadParameterError, UnknownShareError
from shared.events.events import AccessEvent, FileShared, FileUnshared
from shared.events.facts import Reader
from shared.kafka.publishing import Publisher

log = logging.getLogger(__name__)

MAX_READERS = 100
"""Readers of one file, including former ones. Each takes about 80 bytes in the document and one
lookup of followers per delivered state. Concurrent requests on several pods may exceed the limit by
a few."""


class Sharing:
    """Shares files and revokes shares."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher

    def check(self, status: Status, reader: str) -> None:
        """Check that a file may be shared with a reader.

        Raises:
            BadParameterError: the reader owns the file, or it has the maximum number of readers.
        """
        if reader == status.owner:
            raise BadParameterError("subject: this user already owns the file.")
        if share_of(status.shares, reader) is None and len(status.shares) >= MAX_READERS:
            raise BadParameterError(
                f"subject: the file has reached the limit of {MAX_READERS} readers, including "
                "former readers."
            )

    async def known(self, status: Status, reader: str) -> Status:
        """Return the status of a file once this pod knows that it was shared with a reader.

        Another pod may have shared it a moment ago; this waits for the event.

        Raises:
            UnknownShareError: the file was not shared with the reader.
        """
        if share_of(status.shares, reader) is None:
            with self._hub.subscribe(_reader_filter(status, reader)) as news:
                await news.wait(SEEN_TIMEOUT)
            current = await self._hub.current(status.file_id, EVERYTHING)
            status = current.status if current else status
        if share_of(status.shares, reader) is None:
            raise UnknownShareError(f"The file is not shared with {reader!r}.")
        return status

    async def share(self, status: Status, reader: str, command_id: str) -> Status:
        """Share a file with a reader; return the new status once Kafka has the event.

        Raises:
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        data = Reader(command_id=command_id, reader=reader)
        return await self._publish(status, FileShared.of(status.file_id, data, source=SOURCE))

    async def unshare(self, status: Status, reader: str, command_id: str) -> Status:
        """Stop sharing a file with a reader; return the new status once Kafka has the event.

        Raises:
            UnavailableError: Kafka or MongoDB is unavailable.
        """
        data = Reader(command_id=command_id, reader=reader)
        return await self._publish(status, FileUnshared.of(status.file_id, data, source=SOURCE))

    async def _publish(self, status: Status, event: AccessEvent) -> Status:
        reader = event.data.reader

        def seen(now: Status) -> bool:
            share = share_of(now.shares, reader)
            return share is not None and (share.reader is None) == isinstance(event, FileUnshared)

        await publish_and_see(
            self._hub, self._publisher, event, seen=seen, wanted=_reader_filter(status, reader)
        )
        log.info("%s: %s, by command %s", event.file_id, event.type, event.data.command_id)
        after = await self._hub.current(status.file_id, EVERYTHING)
        if after is not None and seen(after.status):
            return after.status
        return apply(status, event, offset=end(status.shares))


def _reader_filter(status: Status, reader: str) -> Filter:
    """Return the filter that follows a file as its reader: the reader gets this event."""
    visible_to = Visibility(tenant=status.tenant, owner=reader)
    return Filter(ids=frozenset({status.file_id}), visible_to=visible_to)

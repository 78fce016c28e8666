"""Sharing: somebody else of a file's tenant may read it, until that is taken back.

Both are facts in Kafka before they are answered, and hold on every pod once its tail has brought
them: what may be read is asked of the state that the pod holds, however far the projector is.
"""

import logging

from services.status.commands.publish import SEEN_WITHIN, SOURCE, publish_and_see
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
"""Of one file, with those who no longer may: each is some 80 bytes of its document, and one more
place to look for followers at each state that is told. Pods that do not know of each other may
exceed it by a few."""


class Sharing:
    """Shares files, and takes that back."""

    def __init__(self, hub: Hub, publisher: Publisher) -> None:
        self._hub = hub
        self._publisher = publisher

    def check(self, status: Status, reader: str) -> None:
        """Whether a file may be shared with somebody.

        Raises:
            BadParameterError: it is theirs, or shared with as many as may be.
        """
        if reader == status.owner:
            raise BadParameterError("subject: the file is theirs already.")
        if share_of(status.shares, reader) is None and len(status.shares) >= MAX_READERS:
            raise BadParameterError(
                f"subject: a file can be shared with {MAX_READERS} people in all, those included "
                "from whom it was taken back."
            )

    async def known(self, status: Status, reader: str) -> Status:
        """The status of a file once this pod knows that it was shared with somebody.

        Another pod may have shared it a moment ago: that is waited for.

        Raises:
            UnknownShareError: it was not.
        """
        if share_of(status.shares, reader) is None:
            with self._hub.subscribe(_theirs(status, reader)) as news:
                await news.wait(SEEN_WITHIN)
            current = await self._hub.current(status.file_id, EVERYTHING)
            status = current.status if current else status
        if share_of(status.shares, reader) is None:
            raise UnknownShareError(f"The file is not shared with {reader!r}.")
        return status

    async def share(self, status: Status, reader: str, command_id: str) -> Status:
        """Let somebody read a file; returns once Kafka knows, with the status after it.

        Raises:
            UnavailableError: Kafka or MongoDB does not answer.
        """
        data = Reader(command_id=command_id, reader=reader)
        return await self._tell(status, FileShared.of(status.file_id, data, source=SOURCE))

    async def unshare(self, status: Status, reader: str, command_id: str) -> Status:
        """Let somebody read a file no longer; returns once Kafka knows, with the status after it.

        Raises:
            UnavailableError: Kafka or MongoDB does not answer.
        """
        data = Reader(command_id=command_id, reader=reader)
        return await self._tell(status, FileUnshared.of(status.file_id, data, source=SOURCE))

    async def _tell(self, status: Status, event: AccessEvent) -> Status:
        reader = event.data.reader

        def seen(now: Status) -> bool:
            share = share_of(now.shares, reader)
            return share is not None and (share.reader is None) == isinstance(event, FileUnshared)

        await publish_and_see(
            self._hub, self._publisher, event, seen=seen, wanted=_theirs(status, reader)
        )
        log.info("%s: %s, by command %s", event.file_id, event.type, event.data.command_id)
        after = await self._hub.current(status.file_id, EVERYTHING)
        if after is not None and seen(after.status):
            return after.status
        return apply(status, event, offset=end(status.shares))


def _theirs(status: Status, reader: str) -> Filter:
    """What follows a file as its reader does, who alone is told of this."""
    theirs = Visibility(tenant=status.tenant, owner=reader)
    return Filter(ids=frozenset({status.file_id}), visible_to=theirs)

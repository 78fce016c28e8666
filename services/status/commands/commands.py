"""User commands: recorded in Kafka with the name of the user before they are carried out.

The events of the file show whether a command was carried out or rejected.
"""

from enum import StrEnum

from services.status.commands.cancellation import Cancellations
from services.status.commands.deletion import Deletions, check_deletable
from services.status.commands.publish import SOURCE
from services.status.commands.runs import Runs
from services.status.commands.sharing import Sharing
from services.status.commands.waiting_uploads import WaitingUploads
from services.status.projection.projection import Status
from shared.auth.principal import Principal
from shared.events.events import CommandedData, FileCommanded, new_file_id
from shared.kafka.publishing import Publisher


class Command(StrEnum):
    """The commands that users can send."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    SHARE = "share"
    UNSHARE = "unshare"
    REDRIVE = "redrive"


class Commands:
    """Records commands and carries them out."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        cancellations: Cancellations,
        runs: Runs,
        deletions: Deletions,
        sharing: Sharing,
        waiting: WaitingUploads,
    ) -> None:
        self._waiting = waiting
        self._publisher = publisher
        self._cancellations = cancellations
        self._runs = runs
        self._deletions = deletions
        self._sharing = sharing

    async def cancel(self, status: Status, by: Principal, *, reason: str) -> Status:
        """Cancel the work on a file; raises the errors of `Cancellations.request`.

        If the file's upload is in the outbox, the command is stored there too.
        """
        if self._waiting.holds(status.file_id):
            command = _command_event(Command.CANCEL, status.file_id, by, reason=reason)
            return await self._waiting.cancel(status, command)
        await self.record(Command.CANCEL, status.file_id, by, reason=reason)
        return await self._cancellations.request(status, reason=reason)

    async def retry(self, status: Status, by: Principal, *, force: bool, reason: str) -> None:
        """Start a new run of a file; raises the errors of `Runs.start`."""
        await self.record(Command.RETRY, status.file_id, by, reason=reason)
        await self._runs.start(status, force=force, reason=reason)

    async def delete(self, status: Status, by: Principal, *, reason: str) -> Status:
        """Delete a file; raises the errors of `Deletions.delete`.

        If the file's upload is in the outbox, the command is stored there too.
        """
        if self._waiting.holds(status.file_id):
            check_deletable(status)
            command = _command_event(Command.DELETE, status.file_id, by, reason=reason)
            return await self._waiting.delete(status, command)
        await self.record(Command.DELETE, status.file_id, by, reason=reason)
        return await self._deletions.delete(status, reason=reason)

    async def share(self, status: Status, by: Principal, *, reader: str, reason: str) -> Status:
        """Share a file with a reader; raises the errors of `Sharing`."""
        self._sharing.check(status, reader)
        command_id = await self.record(
            Command.SHARE, status.file_id, by, reason=reason, reader=reader
        )
        return await self._sharing.share(status, reader, command_id)

    async def unshare(self, status: Status, by: Principal, *, reader: str, reason: str) -> Status:
        """Stop sharing a file with a reader; raises the errors of `Sharing`."""
        status = await self._sharing.known(status, reader)
        command_id = await self.record(
            Command.UNSHARE, status.file_id, by, reason=reason, reader=reader
        )
        return await self._sharing.unshare(status, reader, command_id)

    async def record(
        self,
        command: Command,
        file_id: str,
        by: Principal,
        *,
        reason: str,
        reader: str | None = None,
    ) -> str:
        """Record a command; return once Kafka has it. Only then may it be carried out.

        Returns:
            The id of the command.

        Raises:
            KafkaUnavailableError: Kafka is unavailable.
        """
        event = _command_event(command, file_id, by, reason=reason, reader=reader)
        await self._publisher.publish(event)
        return event.data.command_id


def _command_event(
    command: Command, file_id: str, by: Principal, *, reason: str, reader: str | None = None
) -> FileCommanded:
    """Return the event that records who sent a command, and why."""
    data = CommandedData(
        command_id=new_file_id(),
        command=command.value,
        by=by.owner,
        tenant=by.tenant,
        api_key=by.api_key,
        reason=reason,
        reader=reader,
    )
    return FileCommanded.of(file_id, data, source=SOURCE)

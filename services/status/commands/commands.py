"""What users want done with files: noted in Kafka, with who asked, before it is carried out.

Whether it then was carried out, or refused, the file's own events tell.
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
    """What can be asked for."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    SHARE = "share"
    UNSHARE = "unshare"
    REDRIVE = "redrive"


class Commands:
    """Notes commands, and carries them out."""

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
        """Stop the work on a file; raises what `Cancellations.request` does.

        Where its upload waits for Kafka, the command waits beside it.
        """
        if self._waiting.holds(status.file_id):
            command = _noted(Command.CANCEL, status.file_id, by, reason=reason)
            return await self._waiting.cancel(status, command)
        await self.note(Command.CANCEL, status.file_id, by, reason=reason)
        return await self._cancellations.request(status, reason=reason)

    async def retry(self, status: Status, by: Principal, *, force: bool, reason: str) -> None:
        """Work on a file once more; raises what `Runs.start` does."""
        await self.note(Command.RETRY, status.file_id, by, reason=reason)
        await self._runs.start(status, force=force, reason=reason)

    async def delete(self, status: Status, by: Principal, *, reason: str) -> Status:
        """Delete a file; raises what `Deletions.delete` does.

        Where its upload waits for Kafka, the command waits beside it.
        """
        if self._waiting.holds(status.file_id):
            check_deletable(status)
            command = _noted(Command.DELETE, status.file_id, by, reason=reason)
            return await self._waiting.delete(status, command)
        await self.note(Command.DELETE, status.file_id, by, reason=reason)
        return await self._deletions.delete(status, reason=reason)

    async def share(self, status: Status, by: Principal, *, reader: str, reason: str) -> Status:
        """Let somebody read a file; raises what `Sharing` does."""
        self._sharing.check(status, reader)
        noted = await self.note(Command.SHARE, status.file_id, by, reason=reason, reader=reader)
        return await self._sharing.share(status, reader, noted)

    async def unshare(self, status: Status, by: Principal, *, reader: str, reason: str) -> Status:
        """Let somebody read a file no longer; raises what `Sharing` does."""
        status = await self._sharing.known(status, reader)
        noted = await self.note(Command.UNSHARE, status.file_id, by, reason=reason, reader=reader)
        return await self._sharing.unshare(status, reader, noted)

    async def note(
        self,
        command: Command,
        file_id: str,
        by: Principal,
        *,
        reason: str,
        reader: str | None = None,
    ) -> str:
        """Return once Kafka has it; only then may the command be carried out.

        Returns:
            The command's own id.

        Raises:
            KafkaUnavailableError: it has not.
        """
        command_noted = _noted(command, file_id, by, reason=reason, reader=reader)
        await self._publisher.publish(command_noted)
        return command_noted.data.command_id


def _noted(
    command: Command, file_id: str, by: Principal, *, reason: str, reader: str | None = None
) -> FileCommanded:
    """That somebody asked for something."""
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

"""What users want done with files: noted in Kafka, with who asked, before it is carried out.

Whether it then was carried out, or refused, the file's own events tell.
"""

from enum import StrEnum

from services.status.commanding import SOURCE, request_cancel
from services.status.deletion import Deletions
from services.status.projection import Status
from services.status.runs import Runs
from shared.events import CommandedData, FileCommanded, new_file_id
from shared.messaging import Publisher
from shared.principal import Principal


class Command(StrEnum):
    """What can be asked for."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    REDRIVE = "redrive"


class Commands:
    """Notes commands, and carries them out."""

    def __init__(self, publisher: Publisher, runs: Runs, deletions: Deletions) -> None:
        self._publisher = publisher
        self._runs = runs
        self._deletions = deletions

    async def cancel(self, status: Status, by: Principal, *, reason: str) -> Status:
        """Stop the work on a file; raises what `request_cancel` does."""
        await self.note(Command.CANCEL, status.file_id, by, reason=reason)
        return await request_cancel(self._publisher, status, reason=reason)

    async def retry(self, status: Status, by: Principal, *, force: bool, reason: str) -> None:
        """Work on a file once more; raises what `Runs.start` does."""
        await self.note(Command.RETRY, status.file_id, by, reason=reason)
        await self._runs.start(status, force=force, reason=reason)

    async def delete(self, status: Status, by: Principal, *, reason: str) -> Status:
        """Delete a file; raises what `Deletions.delete` does."""
        await self.note(Command.DELETE, status.file_id, by, reason=reason)
        return await self._deletions.delete(status, reason=reason)

    async def note(self, command: Command, file_id: str, by: Principal, *, reason: str) -> None:
        """Return once Kafka has it; only then may the command be carried out.

        Raises:
            KafkaUnavailableError: it has not.
        """
        data = CommandedData(
            command_id=new_file_id(),
            command=command.value,
            by=by.owner,
            tenant=by.tenant,
            api_key=by.api_key,
            reason=reason,
        )
        await self._publisher.publish(FileCommanded.of(file_id, data, source=SOURCE))

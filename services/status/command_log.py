"""Who asked for what: each command is in Kafka before it is carried out, with who gave it.

Whether it then was carried out, or refused, the file's own events tell.
"""

from enum import StrEnum

from services.status.commanding import SOURCE
from shared.events import CommandedData, FileCommanded, new_file_id
from shared.messaging import Publisher
from shared.principal import Principal


class Command(StrEnum):
    """What can be asked for."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"
    REDRIVE = "redrive"


class CommandLog:
    """Notes commands."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

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

"""`waybill cancel` and `waybill retry`: a command about each of some files."""

from collections.abc import Callable, Iterable

from rich.console import Console

from waybill.client import Status
from waybill.errors import RefusedError


def command_each(
    file_ids: Iterable[str],
    command: Callable[[str], Status],
    *,
    told: Callable[[Status], str],
    console: Console,
    errors: Console,
) -> bool:
    """Give a command about each file; a refusal holds up no other. True if none was refused.

    Args:
        told: what is printed after the id of a file whose command was accepted, from its status.
    """
    accepted = 0
    ids = list(file_ids)
    for file_id in ids:
        try:
            status = command(file_id)
        except RefusedError as error:
            errors.print(f"[red]✗[/red] {file_id}: {error}", highlight=False)
        else:
            accepted += 1
            console.print(f"{file_id}  {told(status)}", highlight=False)
    return accepted == len(ids)

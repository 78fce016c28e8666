"""Commands about several files, or dead letters, one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from waybill.errors import RefusedError

Answer = dict[str, Any]
"""A status document or a dead letter."""


def command_each(
    ids: Sequence[str],
    command: Callable[[str], Answer],
    *,
    told: Callable[[Answer], str],
    console: Console,
    errors: Console,
) -> bool:
    """Give a command about each; a refusal holds up no other. True if none was refused.

    Args:
        told: what is printed after the id of each whose command was accepted, from the answer.
    """
    accepted = 0
    for each in ids:
        try:
            answer = command(each)
        except RefusedError as error:
            errors.print(f"[red]✗[/red] {escape(each)}: {escape(str(error))}", highlight=False)
        else:
            accepted += 1
            console.print(f"{escape(each)}  {told(answer)}", highlight=False)
    return accepted == len(ids)

"""Commands about several files, or dead letters, one by one."""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import typer
from rich.text import Text

from waybill.cli.options import console, errors
from waybill.errors import RefusedError

Answer = TypeVar("Answer")
"""A status document, a dead letter, or who reads a file."""


def readers(subjects: Sequence[str]) -> str:
    """With whom a file is shared, in words."""
    return f"is shared with {', '.join(subjects)}" if subjects else "is shared with nobody"


def command_each(
    ids: Sequence[str],
    command: Callable[[str], Answer],
    *,
    told: Callable[[Answer], str],
) -> NoReturn:
    """Give a command about each, and end the program; a refusal holds up no other.

    Args:
        told: what is printed after the id of each whose command was accepted, from the answer.

    Raises:
        Exit: with 0 if none was refused, otherwise with 1.
    """
    accepted = 0
    for each in ids:
        try:
            answer = command(each)
        except RefusedError as error:
            line = Text("✗", style="red").append(f" {each}: {error}", style="default")
            errors.print(line, soft_wrap=True)
        else:
            accepted += 1
            console.print(Text(f"{each}  {told(answer)}"), soft_wrap=True)
    raise typer.Exit(0 if accepted == len(ids) else 1)

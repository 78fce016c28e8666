"""Apply a command to several files or dead letters, one by one."""

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import typer
from rich.text import Text

from waybill.cli.options import console, errors
from waybill.errors import RefusedError

Answer = TypeVar("Answer")
"""A status document, a dead letter, or the subjects that a file is shared with."""


def describe_shares(subjects: Sequence[str]) -> str:
    """Describe the subjects that a file is shared with."""
    return f"is shared with {', '.join(subjects)}" if subjects else "is shared with nobody"


def command_each(
    ids: Sequence[str],
    command: Callable[[str], Answer],
    *,
    describe: Callable[[Answer], str],
) -> NoReturn:
    """Run a command for each id, then exit. An error does not stop the others.

    Args:
        ids: Ids of files or dead letters.
        command: Runs the command for one id.
        describe: Returns the text to print after an id, from the answer.

    Raises:
        Exit: With code 0 if every command succeeded, otherwise with 1.
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
            console.print(Text(f"{each}  {describe(answer)}"), soft_wrap=True)
    raise typer.Exit(0 if accepted == len(ids) else 1)

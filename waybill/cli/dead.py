"""`waybill dead`: records that could not be read or were given up."""

from base64 import b64decode
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from waybill.addresses import DEFAULT_FOLDER
from waybill.cli.commands import command_each
from waybill.cli.options import Folder, Url, console, service
from waybill.client import DeadLetter

app = typer.Typer(help="Records that could not be read or were given up.", no_args_is_help=True)

LetterId = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
LetterIds = Annotated[list[str], typer.Argument(metavar="ID", help="As `list` shows them.")]


@app.command("list")
def list_letters(
    code: Annotated[
        str | None, typer.Option(help="Only these: unreadable, unknown_version or given_up.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """List dead letters, newest first."""
    with service(url, folder) as client:
        letters = client.dead_letters(limit=limit, code=code)
    # Two lines each, however narrow the terminal: an id that is cut cannot be redriven.
    for letter in letters:
        data = letter["data"]
        head = Text(letter["id"], style="bold")
        head.append(f"  {letter['time']}  {data['code']}  {letter['file_id']}", style="not bold")
        console.print(head, soft_wrap=True)
        console.print(Text(f"  {data['topic']}: {_reason(letter)}", style="dim"))
    if not letters:
        console.print("There are no dead letters.")


@app.command()
def show(letter_id: LetterId, url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """Show a dead letter and the record in it."""
    with service(url, folder) as client:
        letter = client.dead_letter(letter_id)
    data = letter["data"]
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("file_id", letter["file_id"]),
        ("time", letter["time"]),
        ("told by", letter["source"]),
        ("code", data["code"]),
        ("reason", _reason(letter)),
        ("origin", f"{data['topic']}:{data['partition']}@{data['offset']}"),
        ("run", data["run"]),
        ("attempt", data["attempt"]),
        ("size", data["size"]),
        ("payload", b64decode(data["payload"]).decode(errors="replace")),
    ):
        if value not in (None, ""):
            facts.add_row(Text(name, style="dim"), Text(str(value)))
    console.print(facts)


@app.command()
def redrive(letter_ids: LetterIds, url: Url = None, folder: Folder = DEFAULT_FOLDER) -> None:
    """Start files that were given up anew; put back records that could not be read."""
    with service(url, folder) as client:
        command_each(letter_ids, client.redrive, told=_redriven)


def _reason(letter: DeadLetter) -> str:
    code = letter["data"]["error_code"]
    return f"{code}: {letter['data']['reason']}" if code else str(letter["data"]["reason"])


def _redriven(letter: DeadLetter) -> str:
    data = letter["data"]
    if data["code"] == "given_up":
        return f"{letter['file_id']} starts its next run"
    return f"put back into {data['topic']}"

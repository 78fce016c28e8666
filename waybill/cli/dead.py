"""`waybill dead`: records that could not be read, and jobs that were abandoned."""

from base64 import b64decode
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from waybill.addresses import DEFAULT_FOLDER
from waybill.cli.commands import command_each
from waybill.cli.options import Folder, Url, console, service
from waybill.client import DeadLetter

app = typer.Typer(
    help="Manage dead letters: unreadable records and abandoned files.", no_args_is_help=True
)

LetterId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a dead letter, as printed by `list`.")
]
LetterIds = Annotated[
    list[str], typer.Argument(metavar="ID", help="Ids of dead letters, as printed by `list`.")
]


@app.command("list")
def list_letters(
    code: Annotated[
        str | None, typer.Option(help="Only this kind: unreadable, unknown_version or given_up.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=500, help="Maximum number of dead letters.")
    ] = 50,
    url: Url = None,
    folder: Folder = DEFAULT_FOLDER,
) -> None:
    """List dead letters, newest first."""
    with service(url, folder) as client:
        letters = client.dead_letters(limit=limit, code=code)
    # Two lines each, without truncation, so that ids can be copied on narrow terminals.
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
    """Show a dead letter and its record."""
    with service(url, folder) as client:
        letter = client.dead_letter(letter_id)
    data = letter["data"]
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("file_id", letter["file_id"]),
        ("time", letter["time"]),
        ("source", letter["source"]),
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
    """Start a new run of abandoned files, or put unreadable records back into their topics."""
    with service(url, folder) as client:
        command_each(letter_ids, client.redrive, describe=_redriven)


def _reason(letter: DeadLetter) -> str:
    code = letter["data"]["error_code"]
    return f"{code}: {letter['data']['reason']}" if code else str(letter["data"]["reason"])


def _redriven(letter: DeadLetter) -> str:
    data = letter["data"]
    if data["code"] == "given_up":
        return f"{letter['file_id']} starts its next run"
    return f"put back into {data['topic']}"

"""`waybill upload`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from waybill.calls import TERMINAL
from waybill.client import Client
from waybill.errors import RefusedError


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """Parse labels of the form `key=value`.

    Raises:
        typer.BadParameter: A label has no key or no `=`.
    """
    parsed = {}
    for label in labels:
        key, sign, value = label.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{label!r} is not a label; write key=value")
        parsed[key] = value
    return parsed


def upload_all(
    client: Client,
    paths: Sequence[Path],
    *,
    labels: Mapping[str, str],
    content_type: str | None,
    wait: bool,
    direct: bool,
    allow_empty: bool = False,
    console: Console,
) -> bool:
    """Upload each file; a failure does not stop the others. Return True if all succeeded."""
    accepted: dict[str, str] = {}
    upload = client.upload_direct if direct else client.upload
    with Progress(_name_column(), BarColumn(), DownloadColumn(), console=console) as bars:
        for path in paths:
            bar = bars.add_task(path.name, total=path.stat().st_size if path.is_file() else None)
            try:
                answer = upload(
                    path,
                    content_type=content_type,
                    labels=labels,
                    allow_empty=allow_empty,
                    on_sent=lambda count, bar=bar: bars.advance(bar, count),  # type: ignore[misc]
                )
            except (OSError, RefusedError) as error:
                bars.remove_task(bar)
                line = Text("✗", style="red").append(f" {path}: {_reason(error)}", style="default")
                console.print(line, soft_wrap=True)
            else:
                accepted[answer["file_id"]] = path.name
                console.print(Text(f"{answer['file_id']}  {path.name}"), soft_wrap=True)
    ended_well = not wait or _follow(client, accepted, console)
    return ended_well and len(accepted) == len(paths)


def _reason(error: OSError | RefusedError) -> str:
    """Return why a file was rejected, in terms of the command's options."""
    if isinstance(error, RefusedError) and error.code == "empty_file":
        return "the file is empty; add --allow-empty to upload it"
    return str(error)


def _follow(client: Client, files: Mapping[str, str], console: Console) -> bool:
    """Show the progress until all files are terminal. Return True if all are completed."""
    if not files:
        return True
    state = TextColumn("{task.fields[state]}", markup=False)
    with Progress(_name_column(), BarColumn(), state, console=console) as bars:
        tasks = {
            file_id: bars.add_task(name, total=100, state="pending")
            for file_id, name in files.items()
        }
        states = dict.fromkeys(files, "pending")
        for document in client.watch(files):
            file_id = document["file_id"]
            states[file_id] = document["status"]
            _advance(bars, tasks[file_id], document)
            if all(state in TERMINAL for state in states.values()):
                break
    return all(state == "completed" for state in states.values())


def _name_column() -> TextColumn:
    """Return a column of file names, in which brackets are not markup."""
    return TextColumn("{task.description}", markup=False)


def _advance(bars: Progress, task: TaskID, document: Mapping[str, object]) -> None:
    progress = document["progress"]
    percent = progress["percent"] if isinstance(progress, dict) else 0
    error = document["error"]
    reason = f": {error['message']}" if isinstance(error, dict) else ""
    bars.update(task, completed=percent, state=f"{document['phase']}{reason}")

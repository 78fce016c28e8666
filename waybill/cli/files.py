"""`waybill upload`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from waybill.calls import TERMINAL
from waybill.client import Client
from waybill.errors import RefusedError


def parse_labels(labels: Sequence[str]) -> dict[str, str]:
    """`key=value` pairs.

    Raises:
        typer.BadParameter: one has no `=`.
    """
    parsed = {}
    for label in labels:
        key, sign, value = label.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{label!r}: write a label as key=value")
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
    console: Console,
) -> bool:
    """Upload each file; what fails holds up no other. True if all went well."""
    accepted: dict[str, str] = {}
    upload = client.upload_direct if direct else client.upload
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console
    ) as bars:
        for path in paths:
            bar = bars.add_task(path.name, total=path.stat().st_size if path.is_file() else None)
            try:
                answer = upload(
                    path,
                    content_type=content_type,
                    labels=labels,
                    on_sent=lambda count, bar=bar: bars.advance(bar, count),  # type: ignore[misc]
                )
            except (OSError, RefusedError) as error:
                bars.remove_task(bar)
                console.print(f"[red]✗[/red] {path}: {error}", highlight=False)
            else:
                accepted[answer["file_id"]] = path.name
                console.print(f"{answer['file_id']}  {path.name}", highlight=False)
    ended_well = not wait or _follow(client, accepted, console)
    return ended_well and len(accepted) == len(paths)


def _follow(client: Client, files: Mapping[str, str], console: Console) -> bool:
    """Show how the processing goes, to its end. True if all files are completed."""
    if not files:
        return True
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
    ) as bars:
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


def _advance(bars: Progress, task: TaskID, document: Mapping[str, object]) -> None:
    progress = document["progress"]
    percent = progress["percent"] if isinstance(progress, dict) else 0
    error = document["error"]
    reason = f": {error['message']}" if isinstance(error, dict) else ""
    bars.update(task, completed=percent, state=f"{document['phase']}{reason}")

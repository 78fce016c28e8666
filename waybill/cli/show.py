"""`waybill status` and `waybill watch`: statuses as people read them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from waybill.client import Client, Status

COLOURS = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
}

MAX_ROWS = 30
"""Files in the live table: what fits on a screen; the latest changed stay."""


def human_size(size: int | None) -> str:
    """Bytes in the unit that people would use."""
    if size is None:
        return ""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError


def human_duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def seconds_between(earlier: str | None, later: str | None) -> float | None:
    """From one time of a status document to another."""
    if earlier is None or later is None:
        return None
    return (_time(later) - _time(earlier)).total_seconds()


def print_status(document: Status, console: Console) -> None:
    """One file: what it is, where it stands, why it failed, and what happened."""
    state = _state(document)
    state.append(f"  {document['phase']}", style="dim")
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(document):
        facts.add_row(Text(name, style="dim"), value)
    console.print(Text(document["name"] or document["file_id"], style="bold"), state)
    console.print(facts)
    history = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("time (UTC)", "after", "event", "attempt", ""):
        history.add_column(column)
    before: str | None = None
    for line in document["history"]:
        after = seconds_between(before, line["time"])
        history.add_row(
            f"{_time(line['time']):%Y-%m-%d %H:%M:%S}",
            "" if after is None else human_duration(after),
            line["type"].removeprefix("file."),
            str(line["attempt"] or ""),
            Text(line["message"] or line["pod"] or ""),
        )
        before = line["time"]
    console.print(history)


def watch(client: Client, file_ids: Sequence[str], console: Console) -> None:
    """A live table of files; ends with Ctrl-C."""
    rows: dict[str, Status] = {}
    if not file_ids:
        rows = {each["file_id"]: each for each in reversed(client.files(limit=MAX_ROWS))}
    with Live(_table(rows), console=console, auto_refresh=False) as live:
        for document in client.watch(file_ids):
            rows.pop(document["file_id"], None)
            rows[document["file_id"]] = document
            while len(rows) > MAX_ROWS:
                del rows[next(iter(rows))]
            live.update(_table(rows), refresh=True)


def _table(rows: dict[str, Status]) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("file_id", "name", "size", "status", "phase", "%", "attempt"):
        table.add_column(column)
    for document in rows.values():
        progress = document["progress"]
        table.add_row(
            document["file_id"],
            Text(document["name"] or ""),
            human_size(document["size"]),
            _state(document),
            Text(_reason(document) or document["phase"]),
            str(progress["percent"]) if progress else "",
            str(document["attempt"] or ""),
        )
    return table


def _facts(document: Status) -> list[tuple[str, Text]]:
    took = seconds_between(document["started_at"], document["finished_at"])
    facts: list[tuple[str, Any]] = [
        ("file_id", document["file_id"]),
        ("type", document["content_type"]),
        ("size", human_size(document["size"])),
        ("attempt", f"{document['attempt']} of {document['max_attempts']}")
        if document["attempt"]
        else ("attempt", None),
        ("took", None if took is None else human_duration(took)),
        ("next attempt", document["next_attempt_at"]),
        ("error", _reason(document)),
    ]
    return [(name, Text(str(value))) for name, value in facts if value]


def _reason(document: Status) -> str | None:
    error = document["error"]
    return f"{error['code']}: {error['message']}" if error else None


def _state(document: Status) -> Text:
    return Text(document["status"], style=COLOURS.get(document["status"], ""))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)

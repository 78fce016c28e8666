"""Print statuses, histories, statistics and live tables."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from waybill.calls import TERMINAL
from waybill.cli.formatting import human_duration, human_size, seconds_between
from waybill.cli.story import story
from waybill.client import Client, HistoryLine
from waybill.following import Status

COLOURS = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
}

MAX_ROWS = 30
"""Maximum files in the live table, to fit on a screen. The latest changed ones are shown."""


def print_status(document: Status, lines: Iterable[HistoryLine], console: Console) -> None:
    """Print the status and history of a file, with times in UTC."""
    state = _state(document)
    if document["phase"] != document["status"]:
        state.append(f"  {document['phase']}", style="dim")
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(document):
        facts.add_row(Text(name, style="dim"), value)
    console.print(Text(document["name"] or document["file_id"], style="bold"), state)
    console.print(facts)
    console.print()
    print_story(document, lines, console)


def print_story(document: Status, lines: Iterable[HistoryLine], console: Console) -> None:
    """Print the history of a file, one sentence per line, with times in UTC."""
    for time, sentence in story(lines, document):
        line = Text(f"{time:%Y-%m-%d %H:%M:%S}  ", style="dim")
        line.append(sentence, style="not dim")
        console.print(line, soft_wrap=True)


def print_stats(stats: dict[str, Any], console: Console) -> None:
    """Print the statistics of all files."""
    facts = Table.grid(padding=(0, 2))
    for status, colour in COLOURS.items():
        count = Text(str((stats["files"] or {}).get(status, "?")), justify="right")
        oldest = (stats["oldest"] or {}).get(status)
        age = f"oldest: {human_duration(oldest['age_seconds'])}" if oldest else ""
        facts.add_row(Text(status, style=colour), count, Text(age, style="dim"))
    console.print(facts)
    if stats["rates"] is not None:
        rates = ", ".join(f"{rate:.1f}/s {what}" for what, rate in stats["rates"].items())
        console.print(Text(f"over the last minute: {rates}"))
    for sentence in stats["degraded"]:
        console.print(Text(f"degraded: {sentence}", style="yellow"))
    for group, topics in (stats["lag"] or {}).items():
        behind = ", ".join(f"{topic} {lag}" for topic, lag in topics.items() if lag)
        console.print(Text(f"{group}: {behind or 'no lag'}"))


def print_stuck(files: Iterable[dict[str, Any]], console: Console) -> None:
    """Print stuck files, two lines each, without truncating ids."""
    for file in files:
        since = datetime.fromisoformat(file["silent_since"])
        silence = human_duration((datetime.now(UTC) - since).total_seconds())
        head = Text(file["file_id"], style="bold")
        head.append(f"  {file['status']}, silent for {silence}  {file['name'] or ''}", "not bold")
        console.print(head, soft_wrap=True)
        console.print(Text(f"  {file['reason']}", style="dim"))


def print_files(files: Iterable[Status], console: Console) -> None:
    """Print one line per file, without truncating ids."""
    for document in files:
        line = Text(document["file_id"], style="bold")
        line.append("  ").append_text(_state(document))
        words = (
            _phase(document),
            human_size(document["size"]),
            document["name"],
            _reason(document),
        )
        line.append("  ".join(["", *(word for word in words if word)]), style="not bold")
        console.print(line, soft_wrap=True)


def watch(client: Client, file_ids: Sequence[str], console: Console) -> None:
    """Show a live table of files until Ctrl-C. Print one line per update if not on a terminal."""
    if not console.is_terminal:
        for document in client.watch(file_ids):
            print_files([document], console)
        return
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
        ("queue", _queue(document)),
        ("took", None if took is None else human_duration(took)),
        ("next attempt", _next_attempt(document)),
        ("error", _reason(document)),
        ("found", _statistics(document)),
        ("artifacts", _artifacts(document)),
    ]
    return [(name, Text(str(value))) for name, value in facts if value]


def _queue(document: Status) -> str | None:
    place = document["queue"]
    if place is None:
        return None
    expected = place["expected_seconds"]
    if expected is None:
        begins = "start unknown: the queue does not move"
    elif expected < 1:
        begins = "starts at any moment"
    else:
        begins = f"starts in about {human_duration(expected)}"
    if place["position"] is None:
        return begins
    return f"{place['position']} of {place['length']}, {begins}"


def _next_attempt(document: Status) -> str | None:
    if document["next_attempt_at"] is None:
        return None
    due = datetime.fromisoformat(document["next_attempt_at"])
    left = (due - datetime.now(UTC)).total_seconds()
    when = f"in {human_duration(left)}" if left > 0 else "now"
    return f"{when}, at {due:%Y-%m-%d %H:%M:%S} UTC"


def _reason(document: Status) -> str | None:
    error = document["error"]
    return f"{error['code']}: {error['message']}" if error else None


def _phase(document: Status) -> str | None:
    """Return the current phase if the status does not imply it."""
    phase: str = document["phase"]
    if document["status"] in TERMINAL or phase in (document["status"], "queued"):
        return None
    progress = document["progress"]
    return f"{phase} {progress['percent']} %" if progress else phase


def _statistics(document: Status) -> str | None:
    result = document["result"]
    found = result["statistics"] if result else {}
    return ", ".join(f"{name} {value}" for name, value in found.items()) or None


def _artifacts(document: Status) -> str | None:
    result = document["result"]
    stored = result["artifacts"] if result else []
    return ", ".join(f"{each['name']} ({human_size(each['size'])})" for each in stored) or None


def _state(document: Status) -> Text:
    return Text(document["status"], style=COLOURS.get(document["status"], ""))

"""Turn the history of a file into sentences."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from waybill.cli.formatting import human_duration
from waybill.client import HistoryLine
from waybill.following import Status

NOTEWORTHY = 1.0
"""Seconds. Shorter waits in the queue are not mentioned."""


def story(lines: Iterable[HistoryLine], document: Status) -> Iterator[tuple[datetime, str]]:
    """Yield the time and a sentence for each line of a file's history."""
    for line in lines:
        sentence = _sentence(line, _attempt(line, document))
        if line.get("superseded"):
            sentence += " (superseded: the run had already ended, so this had no effect)"
        yield datetime.fromisoformat(line["time"]), sentence


def _sentence(line: HistoryLine, attempt: str) -> str:
    took, waited = line["took_seconds"], line["waited_seconds"]
    after = "" if took is None else f" after {human_duration(took)}"
    reason = "".join(f": {part}" for part in (line["code"], line["message"]) if part)
    match line["type"]:
        case "file.uploaded":
            return "uploaded"
        case "file.requeued":
            return f"run {line['run']} started{reason}"
        case "file.processing":
            begins = f"{attempt} started on {line['pod']}"
            if waited is None or waited < NOTEWORTHY:
                return begins
            return f"{begins} after {human_duration(waited)} in the queue"
        case "file.retrying":
            due = datetime.fromisoformat(line["next_attempt_at"])
            return f"{attempt} failed{after}{reason}; the next one is due at {due:%H:%M:%S}"
        case "file.completed":
            return f"completed at {attempt}{after}"
        case "file.failed" | "file.cancelled" as ended:
            return f"{ended.removeprefix('file.')} at {attempt}{after}{reason}"
        case other:
            return f"{other.removeprefix('file.')}{reason}"


def _attempt(line: HistoryLine, document: Status) -> str:
    """Describe the attempt. The maximum is known only for the document's current run."""
    known = line["run"] == document["run"] and document["max_attempts"]
    return f"attempt {line['attempt']}" + (f" of {document['max_attempts']}" if known else "")

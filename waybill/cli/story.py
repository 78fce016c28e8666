"""What happened to a file, as ordered sentences."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from waybill.cli.words import human_duration, seconds_between
from waybill.client import Status


def story(document: Status) -> Iterator[tuple[datetime, str]]:
    """One sentence for each line of a file's history, each with its time."""
    begun: dict[tuple[int, int | None], str] = {}
    for line in document["history"]:
        attempt = (line["run"], line["attempt"])
        if line["type"] == "file.processing":
            begun[attempt] = line["time"]
        took = seconds_between(begun.get(attempt), line["time"])
        yield (
            datetime.fromisoformat(line["time"]),
            _sentence(line, _attempt(line, document), "" if took is None else human_duration(took)),
        )


def _sentence(line: dict[str, Any], attempt: str, took: str) -> str:
    after = f" after {took}" if took else ""
    reason = "".join(f": {part}" for part in (line["code"], line["message"]) if part)
    match line["type"]:
        case "file.uploaded":
            return "uploaded"
        case "file.requeued":
            return f"run {line['run']} is started{reason}"
        case "file.processing":
            return f"{attempt} begins on {line['pod']}"
        case "file.retrying":
            due = datetime.fromisoformat(line["next_attempt_at"])
            return f"{attempt} failed{after}{reason}; the next one is due at {due:%H:%M:%S}"
        case "file.completed":
            return f"completed at {attempt}{after}"
        case "file.failed" | "file.cancelled" as ended:
            return f"{ended.removeprefix('file.')} at {attempt}{after}{reason}"
        case other:
            return f"{other.removeprefix('file.')}{reason}"


def _attempt(line: dict[str, Any], document: Status) -> str:
    """The document tells how many attempts its present run may have, and of no other run."""
    known = line["run"] == document["run"] and document["max_attempts"]
    return f"attempt {line['attempt']}" + (f" of {document['max_attempts']}" if known else "")

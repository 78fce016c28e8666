"""Write the generated parts of the documentation: `make docs`.

`docs/events.md` comes from the event models and the topic table, the table in
`docs/configuration.md` from the settings. The loops in `docs/operations.md`, the errors in
`docs/formats.md` and the close codes in `docs/stream.md` come from their tables in the code.
`tests/test_docs.py` fails if one of them is out of date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.processor.failures import OF_THE_FILE, OF_THE_MACHINE, OF_THE_STEP, Kind
from services.processor.loops import LOOPS as PROCESSOR_LOOPS
from services.processor.settings import ProcessorSettings
from services.status.api.messages import CloseCode
from services.status.loops import LOOPS as STATUS_LOOPS
from services.status.settings import StatusSettings
from services.upload.loops import LOOPS as UPLOAD_LOOPS
from services.upload.settings import UploadSettings
from shared.events.events import EVENT_CLASSES, Event
from shared.events.topics import TOPICS, Topic
from shared.settings import AccessSettings, SealSettings, Settings

ROOT = Path(__file__).resolve().parent.parent
EVENTS = ROOT / "docs" / "events.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
FORMATS = ROOT / "docs" / "formats.md"
STREAM = ROOT / "docs" / "stream.md"
OPERATIONS = ROOT / "docs" / "operations.md"
EXAMPLES = ROOT / "tests" / "contracts"
CONFIGURATION_BEGIN = "<!-- configuration: begin, written by `make docs` -->"
CONFIGURATION_END = "<!-- configuration: end -->"
ERRORS_BEGIN = "<!-- errors: begin, written by `make docs` -->"
ERRORS_END = "<!-- errors: end -->"
CLOSE_CODES_BEGIN = "<!-- close codes: begin, written by `make docs` -->"
CLOSE_CODES_END = "<!-- close codes: end -->"
LOOPS_BEGIN = "<!-- loops: begin, written by `make docs` -->"
LOOPS_END = "<!-- loops: end -->"


def events_page() -> str:
    """Return the complete text of `docs/events.md`."""
    return "\n".join(
        [
            "# Events and topics",
            "",
            "Written by `make docs` from `shared/events/events.py` and `shared/events/topics.py`.",
            "",
            "Every event is a CloudEvents 1.0 envelope in structured mode, as JSON. The record's "
            "key is the `file_id`; in `file.access` a hash of the reader's name follows it. An "
            "event's `id` is derived from its content, so consumers recognise duplicates. "
            "Consumers ignore unknown fields and types. Times are UTC, RFC 3339, with "
            "milliseconds.",
            "",
            "## Topics",
            "",
            "| topic | purpose | carries | partitions | kept | written by | read by |",
            "|---|---|---|---|---|---|---|",
            *(_topic_row(topic) for topic in TOPICS),
            "",
            "## Events",
            "",
            *(line for cls in EVENT_CLASSES.values() for line in _event_section(cls)),
        ]
    )


def _topic_row(topic: Topic) -> str:
    if topic.is_per_reader:
        kept = "the latest of each reader of each file (compacted)"
    elif topic.compact:
        kept = "the latest of each file (compacted)"
    elif topic.retention is None:
        kept = "forever"
    else:
        hours = int(topic.retention.total_seconds() // 3600)
        kept = f"{hours} h" if hours < 24 else f"{hours // 24} days"
    cells = [
        f"`{topic.name}`",
        topic.purpose,
        "<br>".join(f"`{event}`" for event in topic.carries),
        str(topic.partitions),
        kept,
        ", ".join(topic.writers) or "none",
        ", ".join(topic.readers) or "none",
    ]
    return f"| {' | '.join(cells)} |"


def _event_section(cls: type[Event]) -> Iterator[str]:
    kind = cls.model_fields["type"].default
    data = cls.model_fields["data"].annotation
    yield f"### `{kind}`"
    yield ""
    yield (cls.__doc__ or "").strip()
    yield ""
    yield "| field of `data` | type | |"
    yield "|---|---|---|"
    if isinstance(data, type) and issubclass(data, BaseModel):
        for name, field in data.model_fields.items():
            yield f"| `{name}` | {_type_name(field)} | {field.description or ''} |"
    yield ""
    example = EXAMPLES / f"{kind}.json"
    if example.exists():
        yield "```json"
        yield json.dumps(json.loads(example.read_text()), indent=2)
        yield "```"
        yield ""


def configuration_table() -> str:
    """Return the table of all settings, for `docs/configuration.md`."""
    groups: list[tuple[str, type[Settings]]] = [
        ("all", Settings),
        ("upload, status", SealSettings),
        ("upload, status", AccessSettings),
        ("upload", UploadSettings),
        ("processor", ProcessorSettings),
        ("status", StatusSettings),
    ]
    lines = ["| variable | service | default | |", "|---|---|---|---|"]
    for service, settings in groups:
        for name, field in settings.model_fields.items():
            parent: type[BaseModel] = settings.__mro__[1]
            inherited = parent.model_fields.get(name) if service != "all" else None
            if inherited and inherited.default == field.default:
                continue
            if name == "port" and settings in (Settings, AccessSettings):
                continue
            lines.append(
                f"| `WAYBILL_{name.upper()}` | {service} | {_default(field)} "
                f"| {field.description or ''} |"
            )
    # Descriptions link from the root of the repository.
    return "\n".join(lines).replace("](docs/", "](")


def configuration(current: str) -> str:
    """Return `docs/configuration.md` with the current table of settings."""
    return _between(current, CONFIGURATION_BEGIN, configuration_table(), CONFIGURATION_END)


def loops_table() -> str:
    """Return the table of all background loops, for `docs/operations.md`."""
    of_services = {"status": STATUS_LOOPS, "processor": PROCESSOR_LOOPS, "upload": UPLOAD_LOOPS}
    lines = [
        "| loop | service | vital | late after | what it does | what a user sees when it is late |",
        "|---|---|---|---|---|---|",
    ]
    for service, loops in of_services.items():
        for loop in loops:
            vital = "yes" if loop.vital else "no"
            if not loop.restartable:
                vital += ", not restartable"
            lines.append(
                f"| `{loop.name}` | {service} | {vital} | {loop.late_after:g} s "
                f"| {loop.purpose} | {loop.when_late} |"
            )
    return "\n".join(lines)


def operations(current: str) -> str:
    """Return `docs/operations.md` with the current table of loops."""
    return _between(current, LOOPS_BEGIN, loops_table(), LOOPS_END)


def errors_tables() -> str:
    """Return the tables of error codes, for `docs/formats.md`."""
    groups: list[tuple[str, tuple[Kind, ...]]] = [
        ("Errors of the file:", OF_THE_FILE),
        ("Errors of a step, for any type:", OF_THE_STEP),
        ("Errors of the machine:", OF_THE_MACHINE),
    ]
    lines = []
    for title, kinds in groups:
        lines += ["", title, "", "| code | meaning | retried | what to do |"]
        lines.append("|---|---|---|---|")
        lines += (
            f"| `{kind.code}` | {kind.meaning} | {'yes' if kind.retryable else 'no'} "
            f"| {kind.advice} |"
            for kind in kinds
        )
    return "\n".join(lines[1:])


def formats(current: str) -> str:
    """Return `docs/formats.md` with the current tables of error codes."""
    return _between(current, ERRORS_BEGIN, errors_tables(), ERRORS_END)


def close_codes() -> str:
    """Return the table of WebSocket close codes, for `docs/stream.md`."""
    lines = ["| code | reason | reconnect |", "|---|---|---|"]
    lines += (
        f"| {code.value} | {code.meaning} | {'yes' if code.reconnects else 'no'} |"
        for code in CloseCode
    )
    return "\n".join(lines)


def stream(current: str) -> str:
    """Return `docs/stream.md` with the current table of close codes."""
    return _between(current, CLOSE_CODES_BEGIN, close_codes(), CLOSE_CODES_END)


def _between(current: str, begin: str, content: str, end: str) -> str:
    before, rest = current.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return ""
    value: Any = field.default
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = ",".join(value)
    return "" if value in (None, "") else f"`{value}`"


def _type_name(field: FieldInfo) -> str:
    annotation = field.annotation
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for noise in (
        "typing.",
        "datetime.",
        "shared.events.events.",
        "shared.events.facts.",
        "NoneType",
    ):
        name = name.replace(noise, "")
    return f"`{name}`".replace("|", "\\|")


def main() -> None:
    """Write all generated pages and tables."""
    EVENTS.write_text(events_page())
    CONFIGURATION.write_text(configuration(CONFIGURATION.read_text()))
    FORMATS.write_text(formats(FORMATS.read_text()))
    STREAM.write_text(stream(STREAM.read_text()))
    OPERATIONS.write_text(operations(OPERATIONS.read_text()))


if __name__ == "__main__":
    main()

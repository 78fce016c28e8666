"""Example messages are kept forever: every event that was ever written must stay readable."""

import json
from pathlib import Path

import pytest

from shared.events.events import EVENT_CLASSES, EventType
from shared.events.reading import UnknownVersionError, UnreadableEventError, parse
from shared.events.topics import ACCESS, COMMANDS, RETRY_TIERS, TOPICS, UPLOADED, topic_of

EXAMPLES = sorted(Path(__file__).parent.glob("*.json"))
OLD = [example for example in EXAMPLES if "@without_" in example.stem]
"""Examples from before a field was added."""

TOPIC_OF = {event: topic for topic in TOPICS for event in topic.carries}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_and_written_back_unchanged(example: Path) -> None:
    event = parse(example.read_bytes())
    assert event is not None
    assert isinstance(event, EVENT_CLASSES[event.type])
    message = json.loads(example.read_text())
    written = json.loads(event.to_json())
    if example in OLD:  # Fields added since have their defaults.
        written["data"] = {name: written["data"][name] for name in message["data"]}
    assert written == message


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_newer_writer_may_add_fields(example: Path) -> None:
    message = json.loads(example.read_text())
    newer = message | {"traceparent": "00-1", "data": message["data"] | {"colour": "blue"}}
    assert parse(json.dumps(newer).encode()) == parse(example.read_bytes())


def test_every_event_has_an_example() -> None:
    assert {EventType(path.stem.split("@")[0]) for path in EXAMPLES} == set(EventType)


def test_an_event_of_a_newer_type_is_passed_over() -> None:
    assert parse(b'{"specversion": "1.0", "type": "file.translated", "data": {}}') is None


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"[]", b"{}", b'{"specversion":"1.0","type":"file.failed"}']
)
def test_what_is_no_event_of_the_contract_is_refused(payload: bytes) -> None:
    with pytest.raises(UnreadableEventError):
        parse(payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "2.0"},
        {"dataschema": "urn:waybill:file.failed:2"},
        {"dataschema": "urn:waybill:file.failed:2", "data": {"failure": "told in another way"}},
        {"specversion": "2.0", "type": "file.translated"},
    ],
)
def test_an_event_of_another_version_is_known_as_one(changes: dict[str, object]) -> None:
    message = json.loads((Path(__file__).parent / "file.failed.json").read_text())
    with pytest.raises(UnknownVersionError) as refusal:
        parse(json.dumps(message | changes).encode())
    assert refusal.value.code == "unknown_version"


def test_every_event_has_a_topic() -> None:
    carried = {event for topic in TOPICS for event in topic.carries}
    assert carried == set(EventType)
    for event in set(EventType) - {EventType.RETRY_SCHEDULED, EventType.WEBHOOK_SCHEDULED}:
        assert event in topic_of(event).carries


def test_the_delay_tiers_grow() -> None:
    delays = [tier.delay for tier in RETRY_TIERS]
    assert delays == sorted(delays)


def test_personal_data_is_where_it_can_be_erased_or_ends_by_itself() -> None:
    for example in EXAMPLES:
        topic = TOPIC_OF.get(EventType(example.stem.split("@")[0]))
        if topic in {UPLOADED, ACCESS, COMMANDS}:
            assert topic.compact or topic.retention is not None
            continue
        message = json.loads(example.read_text())
        assert not {"name", "owner", "labels", "reader"} & set(message["data"]), example.name

"""The example messages are kept for ever: what was once written must always be readable."""

import json
from pathlib import Path

import pytest

from shared.events import EVENT_CLASSES, EventType, UnreadableEventError, parse
from shared.topics import RETRY_TIERS, TOPICS, topic_of

EXAMPLES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_read_and_written_back_unchanged(example: Path) -> None:
    event = parse(example.read_bytes())
    assert event is not None
    assert isinstance(event, EVENT_CLASSES[event.type])
    assert json.loads(event.to_json()) == json.loads(example.read_text())


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


def test_every_event_has_a_topic() -> None:
    carried = {event for topic in TOPICS for event in topic.carries}
    assert carried == set(EventType)
    for event in set(EventType) - {EventType.RETRY_SCHEDULED}:
        assert event in topic_of(event).carries


def test_the_delay_tiers_grow() -> None:
    delays = [tier.delay for tier in RETRY_TIERS]
    assert delays == sorted(delays)


def test_personal_data_is_in_the_upload_topic_only() -> None:
    for example in EXAMPLES:
        if example.stem in {EventType.UPLOADED, EventType.REQUEUED}:
            continue
        message = json.loads(example.read_text())
        assert not {"name", "owner", "labels"} & set(message["data"]), example.name

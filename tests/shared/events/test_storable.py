"""Storable values are parsed; all readers reject others, with a readable reason."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.events.events import Event
from shared.events.reading import UnreadableEventError, parse
from shared.events.storable import (
    checked_moment,
    clean_text,
    is_media_type,
    sendable_media_type,
    text_fault,
)
from tests.support.builders import completed, processing, progressed, uploaded


def changed(event: Event, path: str, value: Any) -> bytes:
    """Return the event as another producer may write it, with another value at `path`."""
    changed_event = json.loads(event.to_json())
    *parents, last = path.split(".")
    target = changed_event
    for each in parents:
        target = target[each]
    target[last] = value
    return json.dumps(changed_event).encode()


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (completed(), "data.result.statistics", {"a\x00b": 1}),
        (completed(), "data.result.statistics", {"a": 2**63}),
        (completed(), "data.result.statistics", {"a": -(2**63) - 1}),
        (completed(), "data.result.statistics", {"a": float("nan")}),
        (completed(), "data.result.statistics", {"a": float("inf")}),
        (completed(), "data.result.statistics", {"$ref": "x", "$id": 1}),
        (completed(), "data.result.statistics", {"a": "\ud800"}),
        (completed(), "data.result.statistics", {"\udc80": 1}),
        (completed(), "data.result.artifacts", [{"name": "a", "content_type": "", "size": 2**63}]),
        (completed(), "data.attempt", 2**63),
        (completed(), "data.run", 2**64),
        (completed(), "time", "0001-01-01T00:00:00+14:00"),
        (completed(), "time", "9999-12-31T23:59:59-14:00"),
        (completed(), "subject", ""),
        (completed(), "subject", 'a"b'),
        (completed(), "subject", "a\x00b"),
        (completed(), "type", []),
        (completed(), "type", {"a": 1}),
        (processing(), "data.time_limit", float("inf")),
        (processing(), "data.max_attempts", 2**63),
        (progressed(), "data.seq", 2**70),
        (progressed(), "data.progress", {"done": 1, "total": 2**63}),
        (uploaded(), "data.size", 2**63),
        (uploaded(), "data.labels", {"a\x00b": "c"}),
        (uploaded(), "data.labels", {"$ref": "c"}),
    ],
    ids=lambda value: None if isinstance(value, Event) else ascii(value),
)
def test_an_event_that_cannot_be_stored_is_unreadable(event: Event, path: str, value: Any) -> None:
    parse(event.to_json())
    with pytest.raises(UnreadableEventError) as refused:
        parse(changed(event, path, value))
    str(refused.value).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"specversion":"1.0","type":[],"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"specversion":"1.0","type":"file.completed","subject":"' + b"\xff" + b'"}',
        b"9" * 10_000,
    ],
    ids=["deep list", "deep object", "deep in an envelope", "no UTF-8", "endless number"],
)
def test_nothing_that_a_record_holds_is_more_than_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableEventError):
        parse(payload)


def test_the_largest_integers_and_texts_with_a_nul_are_read() -> None:
    statistics = {"most": 2**63 - 1, "least": -(2**63), "page.count": 1, "text": "a\x00b"}
    event: Any = parse(changed(completed(), "data.result.statistics", statistics))
    assert event.data.result.statistics == statistics


def test_a_moment_is_kept_in_utc_to_the_millisecond() -> None:
    event: Any = parse(changed(completed(), "time", "2026-01-01T02:00:00.123999+02:00"))
    assert event.time == datetime(2026, 1, 1, 0, 0, 0, 123000, UTC)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert checked_moment(moment) is moment


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plain", None),
        ("Grüße\n\t\r", None),
        ("a\x00", "U+0000"),
        ("a\ud800", "U+D800"),
        ("a\x1b[2J", "U+001B"),
    ],
)
def test_a_text_is_refused_with_the_character_and_its_place(text: str, fault: str | None) -> None:
    found = text_fault(text)
    assert found is None if fault is None else found and fault in found


def test_an_advisory_text_is_cleaned_and_cut() -> None:
    assert clean_text("a\x00b\udc80c\nd" + "x" * 100, 7) == "a\ufffdb\ufffdc\nd"


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("text/plain", True),
        ("text/plain; charset=utf-8", True),
        ('multipart/x; boundary="a b"', True),
        ("application/vnd.a+json", True),
        ("text/plain\r\nSet-Cookie: a=b", False),
        ("text/plain; a=\x00", False),
        ("text/plain; a=\u2028", False),
        ("plain", False),
        ("", False),
        ("a/" + "b" * 300, False),
    ],
)
def test_a_media_type_that_cannot_be_a_header_is_sent_as_none(value: str, fits: bool) -> None:
    assert is_media_type(value) is fits
    assert sendable_media_type(value) == (value if fits else "application/octet-stream")

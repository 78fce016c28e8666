"""Consumers never skip a record: they retry or dead-letter it, and log that."""

import asyncio
import logging
from typing import Any

import pytest

from shared.errors import KafkaUnavailableError
from shared.events.events import FileDead
from shared.kafka import consuming
from shared.kafka.consuming import DeadLetterWriter, RecordHandler, until_done
from shared.telemetry import CONSUMER_ERRORS
from tests.services.status.records import Record

RECORD = Record(b"f1", b"value", 7, topic="file.lifecycle", partition=3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(consuming, "WAIT_DELAY", 0.001)


class Fails:
    """An action that fails a number of times, then succeeds."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


class Letters:
    def __init__(self) -> None:
        self.written: list[FileDead] = []

    async def publish(self, letter: FileDead) -> None:
        self.written.append(letter)


def handler() -> tuple[RecordHandler, Letters]:
    letters: Any = Letters()
    return RecordHandler("tests", DeadLetterWriter(letters, source="/tests")), letters


@pytest.mark.parametrize(
    "error",
    [KafkaUnavailableError("away"), OSError("away"), TimeoutError(), ValueError("odd")],
    ids=repr,
)
async def test_what_fails_is_tried_until_it_succeeds(error: Exception) -> None:
    act = Fails(*[error] * 9)
    await until_done(act, consumer="tests", where=lambda: "somewhere")
    assert act.calls == 10


async def test_a_cancellation_from_within_a_library_is_an_error_like_any_other() -> None:
    act = Fails(asyncio.CancelledError())
    await until_done(act, consumer="tests", where=lambda: "somewhere")
    assert act.calls == 2


async def test_a_consumer_that_is_cancelled_ends() -> None:
    async def act() -> None:
        await asyncio.sleep(60)

    task = asyncio.create_task(until_done(act, consumer="tests", where=lambda: "somewhere"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_unexpected_error_is_logged_with_the_records_place_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handling, letters = handler()
    counter = CONSUMER_ERRORS.labels(consumer="tests")
    before = counter._value.get()
    with caplog.at_level(logging.ERROR):
        await handling.handle(RECORD, Fails(ValueError("odd")))
    assert "file.lifecycle:3@7 of 'f1'" in caplog.text
    assert "ValueError('odd')" in caplog.text
    assert counter._value.get() == before + 1
    assert letters.written == []


async def test_a_record_that_fails_again_and_again_is_put_aside_with_its_origin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Test reports between processes cannot contain lone surrogates.
    caplog.set_level(logging.CRITICAL, consuming.__name__)
    handling, letters = handler()
    act = Fails(*[ValueError("a\x00\udc80")] * 100)
    await handling.handle(RECORD, act)
    assert act.calls == consuming.TRIES
    (letter,) = letters.written
    data = letter.data
    assert (data.topic, data.partition, data.offset) == ("file.lifecycle", 3, 7)
    assert data.code == "unprocessable"
    assert "ValueError" in data.reason
    letter.to_json()


async def test_a_part_that_is_away_puts_no_record_aside() -> None:
    handling, letters = handler()
    act = Fails(*[OSError("away")] * 50)
    await handling.handle(RECORD, act)
    assert (act.calls, letters.written) == (51, [])

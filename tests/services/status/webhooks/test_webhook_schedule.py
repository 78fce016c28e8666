"""The clock alone decides which records are due, whenever a timer fires."""

import asyncio
from collections import deque
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition

from services.status.webhooks import courier as couriers
from services.status.webhooks.courier import Courier
from services.status.webhooks.schedule import (
    LONGEST_SLEEP,
    SHORTEST_SLEEP,
    Waiting,
    seconds_to_sleep,
    take_due,
)
from shared.kafka import consuming
from shared.kafka.consuming import DeadLetterWriter, RecordHandler
from tests.services.status.records import Record

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
PARTITION = TopicPartition("file.retry.5s", 3)


def waiting(*seconds: float) -> deque[Waiting[str]]:
    return deque(
        Waiting(NOON + timedelta(seconds=each), offset, f"event {offset}")
        for offset, each in enumerate(seconds)
    )


def test_a_timer_that_fires_a_millisecond_early_takes_nothing() -> None:
    rest = waiting(5)
    assert take_due(rest, NOON + timedelta(seconds=5) - MILLISECOND) == []
    assert len(rest) == 1
    assert [each.offset for each in take_due(rest, NOON + timedelta(seconds=5))] == [0]
    assert take_due(rest, NOON) == []  # Nothing is left.


def test_what_is_due_behind_something_that_is_not_waits_for_it() -> None:
    rest = waiting(0, 0, 9, 0)
    assert [each.offset for each in take_due(rest, NOON)] == [0, 1]
    assert [each.offset for each in take_due(rest, NOON + timedelta(seconds=9))] == [2, 3]


def test_a_sleep_is_never_nothing_and_never_longer_than_a_clock_may_be_wrong() -> None:
    assert seconds_to_sleep(NOON, NOON) == SHORTEST_SLEEP
    assert seconds_to_sleep(NOON - timedelta(hours=1), NOON) == SHORTEST_SLEEP
    assert seconds_to_sleep(NOON + timedelta(seconds=5), NOON) == 5
    assert seconds_to_sleep(NOON + timedelta(hours=1), NOON) == LONGEST_SLEEP


class Consumer:
    """The part of a consumer that the courier needs for one partition."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.resumed = False

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed += offsets.values()

    def resume(self, _: TopicPartition) -> None:
        self.resumed = True


def a_courier(monkeypatch: pytest.MonkeyPatch, seconds: list[int]) -> tuple[Courier, list[Record]]:
    """Return a courier and records of one partition. Each event is its seconds after noon."""
    made = Courier.__new__(Courier)
    made._handler = RecordHandler("webhooks", DeadLetterWriter(None, source="/webhooks"))
    records = [
        Record(b"f1", b"", offset, PARTITION.topic, PARTITION.partition)
        for offset in range(len(seconds))
    ]
    read = list(zip(records, seconds, strict=True))
    monkeypatch.setattr(couriers, "_read", lambda _: read)
    monkeypatch.setattr(couriers, "_due_at", lambda event: NOON + timedelta(seconds=event))
    return made, records


async def test_a_partition_goes_on_where_each_timer_fires_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    clock = NOON
    made, records = a_courier(monkeypatch, list(range(100)))

    async def handle_event(event: int) -> None:
        told.append(event)

    async def sleep(seconds: float) -> None:
        nonlocal clock
        clock += timedelta(seconds=seconds) - MILLISECOND * (seconds > 0.002)

    monkeypatch.setattr(made, "_handle_event", handle_event)
    monkeypatch.setattr(couriers, "utc_now", lambda: clock)
    # Patch the courier only: other tasks of this event loop also sleep and must not spin.
    monkeypatch.setattr(couriers, "asyncio", SimpleNamespace(sleep=sleep, gather=asyncio.gather))
    consumer = Consumer()
    await made._process_records(consumer, PARTITION, records)
    assert told == list(range(100))
    assert consumer.committed == list(range(1, 101))
    assert consumer.resumed


async def test_an_event_that_fails_is_retried_loudly_and_holds_up_its_partition_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consuming, "FIRST_DELAY", 0)
    made, records = a_courier(monkeypatch, [0])
    attempts = 0

    async def handle_event(_: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise KeyError("nobody foresaw this")

    monkeypatch.setattr(made, "_handle_event", handle_event)
    consumer = Consumer()
    await made._process_records(consumer, PARTITION, records)
    assert attempts == 3
    assert consumer.committed == [1]
    assert caplog.text.count("webhooks failed on file.retry.5s:3@0 of 'f1'") == 2


@pytest.mark.parametrize("cancelled", [False, True])
async def test_work_on_a_partition_that_ends_badly_is_an_error_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    made, _ = a_courier(monkeypatch, [])

    async def fail() -> None:
        raise IndexError("deque index out of range")

    task = asyncio.create_task(fail())
    if cancelled:
        task.cancel()
    await asyncio.wait({task})
    made._in_progress = {PARTITION: task}
    with pytest.raises((IndexError, couriers.ProcessingCancelledError)):
        made._check_in_progress()

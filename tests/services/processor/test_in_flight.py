"""Records in flight: fair order, cancel requests and interrupted attempts."""

import asyncio

import pytest

from services.processor.outcomes import Outcomes
from services.processor.settings import ProcessorSettings
from services.processor.work import Work
from shared.blobs.blobs import BlobStore
from shared.events.events import (
    AnyEvent,
    CancelRequestedData,
    FileCancelled,
    FileCancelRequested,
    FileDead,
    FileFailed,
    FileRetrying,
    FileRetryScheduled,
    new_file_id,
)
from shared.events.facts import Result
from shared.events.topics import CONTROL, DEAD, LIFECYCLE, RETRY_TIERS
from shared.kafka.consuming import TRIES
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.processor.pods import die, processing_pod, types_of, upload
from tests.support.consuming import consume


async def request_cancel(publisher: Publisher, file_id: str, *, run: int = 1) -> None:
    data = CancelRequestedData(run=run, reason="changed my mind")
    await publisher.publish(FileCancelRequested.of(file_id, data, source="/status"))


async def open_wishes(settings: Settings) -> set[str]:
    """Return the ids with a request in the control topic, as compaction would leave it."""
    wishes: dict[bytes, bytes | None] = {}
    async with open_log(settings, (CONTROL,), client_id="tests") as (consumer, partitions):
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while [each for each in partitions if await consumer.position(each) < ends[each]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                wishes |= {record.key: record.value for record in records}
    return {key.decode() for key, value in wishes.items() if value is not None}


def outcome(events: list[AnyEvent], file_id: str) -> AnyEvent:
    return next(event for event in reversed(events) if event.file_id == file_id)


async def test_running_work_that_is_cancelled_stops_and_the_wish_is_settled(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, seconds=60, steps=600)
    async with processing_pod(processor_settings):
        await consume(processor_settings, LIFECYCLE, 1)
        await request_cancel(publisher, file_id)
        async with asyncio.timeout(20):
            events = await consume(processor_settings, LIFECYCLE, 2)
        other = await upload(publisher, blobs)
        events = await consume(processor_settings, LIFECYCLE, 4)
    assert types_of(events, file_id) == ["processing", "cancelled"]
    assert types_of(events, other) == ["processing", "completed"]
    stopped = outcome(events, file_id)
    assert isinstance(stopped, FileCancelled)
    assert (stopped.data.attempt, stopped.data.reason) == (1, "changed my mind")
    assert await open_wishes(processor_settings) == set()


async def test_a_file_that_waits_for_its_turn_is_cancelled_at_once(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    busy = [await upload(publisher, blobs, seconds=60) for _ in range(3)]
    async with processing_pod(processor_settings):
        await consume(processor_settings, LIFECYCLE, 3)
        pending = await upload(publisher, blobs)
        await asyncio.sleep(0.2)
        await request_cancel(publisher, pending)
        events = await consume(processor_settings, LIFECYCLE, 4)
        for file_id in busy:
            await request_cancel(publisher, file_id)
        await consume(processor_settings, LIFECYCLE, 7)
    assert types_of(events, pending) == ["cancelled"]


async def test_a_file_cancelled_before_any_pod_was_there_is_never_begun(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    unwanted = await upload(publisher, blobs)
    await request_cancel(publisher, unwanted)
    wanted = await upload(publisher, blobs)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 3)
    assert types_of(events, unwanted) == ["cancelled"]
    assert types_of(events, wanted) == ["processing", "completed"]


async def test_a_retry_never_overtakes_a_cancel(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, then="retry", until=3)
    async with processing_pod(processor_settings, backoff_first=1000.0, backoff_max=1000.0):
        await consume(processor_settings, LIFECYCLE, 2)
        await request_cancel(publisher, file_id)
        events = await consume(processor_settings, LIFECYCLE, 3)
    assert types_of(events, file_id) == ["processing", "retrying", "cancelled"]
    stopped = outcome(events, file_id)
    assert isinstance(stopped, FileCancelled)
    assert stopped.data.attempt == 2


async def test_a_wish_about_an_earlier_run_stops_nothing(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs)
    await request_cancel(publisher, file_id, run=7)
    async with processing_pod(processor_settings):
        events = await consume(processor_settings, LIFECYCLE, 2)
    assert types_of(events, file_id) == ["processing", "completed"]


async def test_one_users_many_files_do_not_hold_up_anothers_one(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    scans = [await upload(publisher, blobs, owner="ada", seconds=0.5) for _ in range(40)]
    page = await upload(publisher, blobs, owner="ben")
    async with processing_pod(processor_settings):
        async with asyncio.timeout(20):
            events: list[AnyEvent] = []
            while not types_of(events, page)[1:]:
                events = await consume(processor_settings, LIFECYCLE, len(events) + 1)
        done = sum(types_of(events, scan)[-1:] == ["completed"] for scan in scans)
        assert done < len(scans) // 2
        await consume(processor_settings, LIFECYCLE, 82)


async def test_a_repeat_of_what_is_in_hand_is_worked_on_once(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    twice = new_file_id()
    for _ in range(2):
        await upload(publisher, blobs, file_id=twice, seconds=1)
    async with processing_pod(processor_settings):
        await consume(processor_settings, LIFECYCLE, 2)
        last = await upload(publisher, blobs)
        events = await consume(processor_settings, LIFECYCLE, 4)
    assert types_of(events, twice) == ["processing", "completed"]
    assert types_of(events, last) == ["processing", "completed"]


async def test_an_attempt_that_was_cut_off_is_told_with_its_reason_and_the_last_one_fails(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    file_id = await upload(publisher, blobs, seconds=30)
    lives = processor_settings.max_attempts
    for life in range(1, lives + 1):
        async with processing_pod(processor_settings, pod=f"pod-{life}", shutdown_grace=0) as pod:
            await consume(processor_settings, LIFECYCLE, 2 * life - 1)
            await die(pod)
    async with processing_pod(processor_settings, pod="pod-last"):
        events = await consume(processor_settings, LIFECYCLE, 2 * lives)
    assert types_of(events, file_id) == ["processing", "retrying"] * (lives - 1) + [
        "processing",
        "failed",
    ]
    told = [event for event in events if isinstance(event, FileRetrying)]
    assert [(event.data.attempt, event.data.error.code) for event in told] == [
        (1, "worker_crashed"),
        (2, "worker_crashed"),
    ]
    failed = outcome(events, file_id)
    assert isinstance(failed, FileFailed)
    assert (failed.data.attempt, failed.data.error.code) == (lives, "worker_crashed")


async def test_a_scheduled_retry_carries_no_personal_data(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    await upload(publisher, blobs, owner="ada", then="retry")
    async with processing_pod(processor_settings):
        (scheduled,) = await consume(processor_settings, RETRY_TIERS[0].topic, 1)
    assert isinstance(scheduled, FileRetryScheduled)
    assert b"ada" not in scheduled.to_json()
    assert b"demo.json" not in scheduled.to_json()


async def test_a_record_on_which_the_pod_itself_fails_is_dead_lettered_and_harms_no_other(
    publisher: Publisher,
    processor_settings: ProcessorSettings,
    blobs: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    poison = await upload(publisher, blobs)
    completed = Outcomes.completed

    async def fail_on_one(outcomes: Outcomes, work: Work, result: Result) -> None:
        if work.file_id == poison:
            raise ZeroDivisionError("nobody foresaw it")
        await completed(outcomes, work, result)

    monkeypatch.setattr(Outcomes, "completed", fail_on_one)
    monkeypatch.setattr("services.processor.in_flight.FIRST_DELAY", 0.01)
    others = [await upload(publisher, blobs) for _ in range(3)]
    async with processing_pod(processor_settings):
        (letter,) = await consume(processor_settings, DEAD, 1)
        # The others have one start and one end each; this one has a start per try.
        events = await consume(processor_settings, LIFECYCLE, 2 * len(others) + TRIES + 1)
    assert {types_of(events, each)[-1] for each in others} == {"completed"}
    assert isinstance(letter, FileDead)
    assert (letter.file_id, letter.data.code) == (poison, "unprocessable")
    assert "ZeroDivisionError: nobody foresaw it" in letter.data.reason
    failed = outcome(events, poison)
    assert isinstance(failed, FileFailed)
    assert (failed.data.error.code, failed.data.error.retryable) == ("internal", True)
    noted = next(each.message for each in caplog.records if "processor failed" in each.message)
    assert poison in noted
    assert "file.uploaded:" in noted

"""A cancel request finishes a file that no attempt holds, and no file has two outcomes."""

import asyncio

import httpx
import pytest

from services.processor.settings import ProcessorSettings
from services.status.commands.cancellation import ended
from services.status.projection.projection import FileState, Status, fold
from shared.blobs.blobs import open_blob_store
from shared.events.events import FileCancelled, FileCancelRequested, StatusEvent, new_file_id
from shared.events.topics import CONTROL, LIFECYCLE
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.services.processor.pods import processing_pod, types_of, upload
from tests.services.status.asking import publish, status_path, wait_for, wait_for_history
from tests.support.builders import completed, processing, requeued, retrying, uploaded
from tests.support.consuming import consume, count


async def cancel(client: httpx.AsyncClient, file_id: str) -> httpx.Response:
    answer = await client.post(f"/api/files/{file_id}/cancel", params={"reason": "not needed"})
    assert answer.status_code == 202, answer.text
    return answer


@pytest.mark.parametrize(
    ("events", "attempt"),
    [([uploaded()], 1), ([uploaded(), processing(), retrying()], 2)],
    ids=["queued", "waiting to retry"],
)
async def test_a_file_that_waits_is_cancelled_by_the_answer_without_any_processor(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
    events: list[StatusEvent],
    attempt: int,
) -> None:
    file_id = new_file_id()
    await publish(publisher, file_id, *events)
    await wait_for_history(client, file_id, len(events))
    told = (await cancel(client, file_id)).json()
    assert (told["status"], told["attempt"]) == ("cancelled", attempt)
    assert told["history"][-1]["message"] == "not needed"
    assert (await client.get(status_path(file_id))).json()["status"] == "cancelled"
    (request,) = await consume(settings, CONTROL, 1)
    assert isinstance(request, FileCancelRequested), "a processor will find it at the record"


async def test_a_file_whose_processors_are_all_gone_is_cancelled(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    blobs = open_blob_store(settings)
    pod = ProcessorSettings(**settings.model_dump(), workers=1, pod="gone")
    async with processing_pod(pod, shutdown_grace=0.0):
        file_id = await upload(publisher, blobs, seconds=60)
        await wait_for(client, file_id, "processing")
    assert (await client.get(status_path(file_id))).json()["status"] == "processing"
    assert (await cancel(client, file_id)).json()["phase"] == "cancelling"
    cancelled = (await wait_for(client, file_id, "cancelled")).json()
    assert cancelled["attempt"] == 1
    end = (await client.get(f"/api/files/{file_id}")).json()["history"][-1]
    assert (end["type"], end["message"]) == ("file.cancelled", "not needed")


async def test_a_processor_that_comes_later_does_nothing_and_tells_the_same_end(
    client: httpx.AsyncClient,
    publisher: Publisher,
    settings: Settings,
) -> None:
    blobs = open_blob_store(settings)
    file_id, other = await upload(publisher, blobs), await upload(publisher, blobs)
    await wait_for(client, file_id, "pending")
    await cancel(client, file_id)
    pod = ProcessorSettings(**settings.model_dump(), workers=2, pod="late")
    async with processing_pod(pod):
        await wait_for(client, other, "completed")
        async with asyncio.timeout(20):
            while await count(settings, CONTROL) < 2:  # The request and the tombstone.
                await asyncio.sleep(0.05)
    number = await count(settings, LIFECYCLE)
    events = await consume(settings, LIFECYCLE, number)
    assert set(types_of(events, file_id)) == {"cancelled"}
    ends = {event.id for event in events if event.file_id == file_id}
    assert len(ends) == 1, "a repeat has the same id"
    history = (await client.get(f"/api/files/{file_id}/events")).json()["items"]
    assert [line["type"] for line in history] == ["file.uploaded", "file.cancelled"]


async def test_a_request_for_a_later_run_stops_what_is_left_of_an_earlier_one(
    client: httpx.AsyncClient, publisher: Publisher, settings: Settings
) -> None:
    blobs = open_blob_store(settings)
    file_id = await upload(publisher, blobs)
    await wait_for(client, file_id, "pending")
    await cancel(client, file_id)
    again = await client.post(f"/api/files/{file_id}/retry")
    assert (again.status_code, again.json()["run"]) == (202, 2)
    assert (await cancel(client, file_id)).json()["status"] == "cancelled"
    pod = ProcessorSettings(**settings.model_dump(), workers=2, pod="late")
    async with processing_pod(pod):
        async with asyncio.timeout(20):
            while await count(settings, CONTROL) < 3:  # Two requests and a tombstone.
                await asyncio.sleep(0.05)
    events = await consume(settings, LIFECYCLE, await count(settings, LIFECYCLE))
    assert set(types_of(events, file_id)) == {"cancelled"}


def status_of(*events: StatusEvent) -> Status:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("events", "run", "attempt", "max_attempts"),
    [
        ((uploaded(),), 1, 1, 1),
        ((uploaded(), processing(2)), 1, 2, 3),
        ((uploaded(), processing(), retrying()), 1, 2, 3),
        ((uploaded(), processing(3), requeued()), 2, 1, 1),
    ],
)
def test_the_end_names_the_attempt_that_was_stopped_or_will_not_be_made(
    events: tuple[StatusEvent, ...], run: int, attempt: int, max_attempts: int
) -> None:
    event = ended(status_of(*events), reason="asked for")
    assert (event.data.run, event.data.attempt) == (run, attempt)
    assert event.data.max_attempts == max_attempts


def test_of_two_ends_at_the_same_moment_every_reader_takes_the_first_in_the_log() -> None:
    waiting = status_of(uploaded())
    stop = ended(waiting, reason="asked for")
    begun, done = processing(), completed()
    for order in ((begun, stop, done), (begun, done, stop)):
        for arrival in (order, order[::-1]):
            events = [(event, order.index(event)) for event in arrival]
            status = fold(waiting, events)
            assert status is not None
            first = next(event for event in order if event is not begun)
            is_cancelled = isinstance(first, FileCancelled)
            assert status.status is (FileState.CANCELLED if is_cancelled else FileState.COMPLETED)

"""The history of a file reads as sentences, in order, with the reason of each attempt."""

from pydantic import TypeAdapter

from services.status.projection.history import HistoryLine, with_durations
from services.status.projection.projection import fold
from shared.events.events import StatusEvent
from tests.support.builders import (
    cancelled,
    completed,
    failed,
    processing,
    requeued,
    retrying,
    uploaded,
)
from waybill.cli.story import story

LINES = TypeAdapter(list[HistoryLine])


def sentences(*events: StatusEvent) -> list[str]:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    lines = LINES.dump_python(list(with_durations(status.history)), mode="json")
    told = list(story(lines, status.model_dump(mode="json")))
    assert [time for time, _ in told] == sorted(time for time, _ in told)
    return [sentence for _, sentence in told]


def test_a_file_that_was_tried_twice_tells_why() -> None:
    assert sentences(
        uploaded(), processing(), retrying(time=3), processing(2, time=10), completed(2, time=11.5)
    ) == [
        "uploaded",
        "attempt 1 of 3 started on pod-a after 1.0 s in the queue",
        "attempt 1 of 3 failed after 2.0 s: demo_retry: not this time; "
        "the next one is due at 00:00:08",
        "attempt 2 of 3 started on pod-a after 2.0 s in the queue",
        "completed at attempt 2 of 3 after 1.5 s",
    ]


def test_a_second_run_is_told_after_the_first() -> None:
    assert sentences(
        uploaded(),
        processing(),
        failed(time=4),
        requeued(),
        processing(run=2, time=51),
        cancelled(run=2, time=54),
    ) == [
        "uploaded",
        "attempt 1 started on pod-a after 1.0 s in the queue",
        "failed at attempt 1 after 3.0 s: corrupt_document: no PDF",
        "run 2 started: asked for",
        "attempt 1 of 3 started on pod-a after 1.0 s in the queue",
        "cancelled at attempt 1 of 3 after 3.0 s: asked for",
    ]


def test_a_file_that_was_cancelled_before_it_began_tells_so() -> None:
    assert sentences(uploaded(), cancelled()) == [
        "uploaded",
        "cancelled at attempt 1 of 3: asked for",
    ]


def test_what_a_lost_attempt_told_after_the_end_is_told_as_such() -> None:
    lines = sentences(uploaded(), processing(), completed(), failed(2, time=20))
    assert lines[-2] == "completed at attempt 1 of 3 after 8.0 s"
    assert lines[-1].startswith("failed at attempt 2 of 3: corrupt_document: no PDF")
    assert "superseded" in lines[-1]

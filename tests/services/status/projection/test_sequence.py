"""Every pod publishes the same states in the same order, whatever the topics' and MongoDB's lag."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.status.live.cursor import TOPICS, Partition
from services.status.live.overlay import MAX_CAUSE_WAIT, Observed, Overlay
from services.status.projection.position import Position, position_of
from services.status.projection.projection import Status, apply, fold
from services.status.projection.sequence import is_due, rewind
from shared.events.events import AccessEvent, EventType, Rank, StatusEvent
from shared.events.topics import LIFECYCLE, UPLOADED, topic_of
from tests.support.builders import (
    FILE,
    completed,
    deleted,
    failed,
    processing,
    progressed,
    requeued,
    retrying,
    uploaded,
)

LOG: list[StatusEvent] = [
    uploaded(),
    processing(1, time=1),
    progressed(1),
    processing(1, pod="zombie", time=0.5),
    retrying(1),
    uploaded(),
    processing(2, time=8),
    progressed(1, attempt=2),
    failed(2, time=12),
    retrying(1, time=12.5),
    requeued(2),
    processing(1, run=2, time=51),
    completed(1, run=2, time=53),
    completed(1, time=54),
    processing(2, run=2, time=55),
    deleted(time=99),
]
"""A file's log with repeats, late events of pods that were considered dead, and a second run."""


def logged(events: list[StatusEvent]) -> list[Observed]:
    """Return the events with their positions. Cursors do not count the topic of progress."""
    ends: dict[Partition | None, int] = {}
    placed: list[Observed] = []
    for event in events:
        topic = topic_of(event.type)
        partition = Partition(TOPICS.index(topic), 3) if topic in TOPICS else None
        placed.append(Observed(event, partition, 3, ends.setdefault(partition, 0)))
        ends[partition] += 1
    return placed


State = tuple[Position, bool]


def lifecycle(statuses: Iterable[Status]) -> list[State]:
    """Return the states of a file and whether it is deleted, without progress."""
    through: list[State] = []
    for status in statuses:
        state = (status.position, status.deleted_at is not None)
        if status.position.rank is not Rank.PROGRESSED and through[-1:] != [state]:
            through.append(state)
    return through


def folded(log: list[Observed]) -> list[Status]:
    """Return the states of the log, event by event."""
    statuses: list[Status] = []
    for each in log:
        statuses.append(apply(statuses[-1] if statuses else None, each.event, each.offset))
    return statuses


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_pod_tells_every_state_after_its_beginning_whatever_is_read_first(
    data: st.DataObject,
) -> None:
    log = logged(LOG)
    begin = data.draw(st.integers(0, len(log)), label="where the tail begins")
    stored_to = data.draw(st.integers(begin, len(log)), label="how far MongoDB is")
    document = fold(None, [(each.event, each.offset) for each in log[:stored_to]])
    overlay = Overlay()
    overlay.begin(
        {
            Partition(topic, 3): sum(each.topic == topic for each in log[:begin])
            for topic in range(len(TOPICS))
        }
    )
    queues = [[each for each in log[begin:] if each.topic == topic] for topic in (None, 0, 1)]
    told: list[Status] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        size = data.draw(st.integers(1, len(queue)))
        batch = [queue.pop(0) for _ in range(size)]
        known = {} if FILE in overlay.ids or document is None else {FILE: document}
        updates = overlay.fold(batch, known, overdue=[], read={}, now=0.0)
        told += [each.status for each in updates]
    before = lifecycle(folded(log[:begin]))[-1:]
    expected = lifecycle(folded(log))
    since = expected.index(before[0]) + 1 if before else 0
    assert [each for each in lifecycle(told) if each not in before] == expected[since:]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LOG)), st.integers(0, len(LOG)))
def test_a_document_is_taken_back_to_where_the_tail_stands(stored: int, read: int) -> None:
    log = logged(LOG)
    document = fold(None, [(each.event, each.offset) for each in log[:stored]])
    past = fold(None, [(each.event, each.offset) for each in log[: min(stored, read)]])
    if document is None:
        return
    back = rewind(
        document,
        {
            topic: sum(each.topic == number for each in log[:read])
            for number, topic in enumerate(TOPICS)
        },
    )
    if back is None or past is None:
        assert back is past
        return
    assert back.history == past.history
    assert (back.run, back.status) == (past.run, past.status)
    assert (back.deleted_at is None) == (past.deleted_at is None)


def test_a_line_of_the_history_has_the_position_of_its_event() -> None:
    for offset, event in enumerate(LOG):
        status = apply(None, event, offset)
        if status.history and not isinstance(event, AccessEvent):
            assert status.history[0].position == position_of(event, offset)


def test_an_event_waits_for_its_cause_and_not_for_ever() -> None:
    overlay = Overlay()
    orphan = Observed(processing(), Partition(TOPICS.index(LIFECYCLE), 3), 3, 0)
    assert overlay.fold([orphan], {}, overdue=[], read={Partition(1, 3): 1}, now=10.0) == []
    assert overlay.cursor() == {Partition(1, 3): 0}
    assert overlay.overdue(10.0 + MAX_CAUSE_WAIT, at_end=True) == []
    assert overlay.overdue(20.0, at_end=False) == []
    assert overlay.overdue(20.0 + MAX_CAUSE_WAIT / 2, at_end=True) == []
    late = overlay.overdue(22.0, at_end=True)
    told = overlay.fold([], {}, overdue=late, read={}, now=22.0)
    assert [each.status.status for each in told] == ["processing"]
    assert overlay.cursor() == {Partition(1, 3): 1}


def test_a_new_run_comes_after_the_end_of_the_last_one() -> None:
    status = fold(None, [(uploaded(), 0), (processing(), 0)])
    assert not is_due(status, requeued(2))
    status = apply(status, failed(), 1)
    assert is_due(status, requeued(2))
    assert not is_due(status, processing(run=2))
    assert is_due(apply(status, requeued(2), 1), processing(run=2))


def test_a_reader_sees_no_step_back_while_the_tail_is_behind_mongodb() -> None:
    log = logged([uploaded(), processing(), progressed(), completed()])
    document = fold(None, [(each.event, each.offset) for each in log])
    assert document is not None
    overlay = Overlay()
    overlay.begin({Partition(TOPICS.index(UPLOADED), 3): 0, Partition(1, 3): 0})
    for each in log:
        assert each.event.type is not EventType.DELETED
        overlay.fold([each], {FILE: document}, overdue=[], read={}, now=0.0)
        current = overlay.get(FILE)
        assert current is not None
        assert current.status.status == "completed"


def test_an_event_that_cannot_be_folded_is_told_and_skips_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def apply_badly(status: Status | None, event: StatusEvent, offset: int) -> Status:
        if offset == 1:
            raise ZeroDivisionError("nobody foresaw it")
        return apply(status, event, offset)

    monkeypatch.setattr("services.status.live.overlay.apply", apply_badly)
    failed: list[int] = []
    overlay = Overlay(lambda observed, _: failed.append(observed.offset))
    overlay.begin({})
    place = Partition(1, 0)
    events = [
        Observed(uploaded(), Partition(0, 0), 0, 0),
        Observed(processing(), place, 0, 1),
        Observed(completed(), place, 0, 2),
    ]
    told = overlay.fold(events, {}, overdue=[], read={}, now=0.0)
    assert failed == [1]
    assert [each.status.status.value for each in told] == ["pending", "completed"]


def test_a_document_of_progress_alone_leaves_no_gap_before_its_upload_is_read() -> None:
    document = fold(None, [(progressed(1), 0)])
    assert document is not None
    overlay = Overlay()
    overlay.begin({})
    log = [
        Observed(progressed(2), None, 3, 1),
        Observed(processing(), Partition(1, 3), 3, 0),
        Observed(uploaded(), Partition(0, 3), 3, 0),
    ]
    told = [
        update.status.phase
        for each in log
        for update in overlay.fold([each], {FILE: document}, overdue=[], read={}, now=0.0)
    ]
    assert told[:2] == ["queued", "starting"]

"""The projection is a pure fold that does not depend on order, repetition or batching."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.status.projection.history import MAX_HISTORY
from services.status.projection.projection import FileState, Status, apply, fold
from services.status.projection.shares import readers
from shared.events.events import EventType, FileCancelRequested, StatusEvent
from shared.events.facts import reader_key
from tests.support.builders import (
    ERROR,
    FILE,
    at,
    cancel_requested,
    cancelled,
    completed,
    deleted,
    failed,
    processing,
    progressed,
    requeued,
    retrying,
    shared,
    unshared,
    uploaded,
)


def folded(*events: StatusEvent) -> Status:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    return status


def test_an_uploaded_file_is_pending_and_carries_its_facts() -> None:
    status = folded(uploaded())
    assert (status.status, status.phase, status.attempt) == (FileState.PENDING, "queued", 0)
    assert (status.name, status.owner, status.size) == ("report.pdf", "ada", 1234)
    assert status.created_at == status.updated_at == at(0)


def test_progress_shows_the_phase_and_the_percentage() -> None:
    status = folded(uploaded(), processing(), progressed(done=1, total=4))
    assert (status.status, status.phase) == (FileState.PROCESSING, "extracting")
    assert status.progress is not None
    assert status.progress.percent == 25


def test_the_furthest_progress_is_shown_whichever_came_last() -> None:
    reports = [progressed(seq, done=seq) for seq in (1, 3, 2)]
    status = folded(uploaded(), processing(), *reports)
    assert status.progress is not None
    assert status.progress.done == 3


def test_a_file_that_waits_for_a_retry_is_pending_with_its_reason_and_its_time() -> None:
    status = folded(uploaded(), processing(), retrying(time=3))
    assert status.status is FileState.PENDING
    assert status.error == ERROR
    assert status.next_attempt_at == at(8)
    assert (status.attempt, status.max_attempts) == (1, 3)


def test_the_next_attempt_clears_the_error_of_the_last_one() -> None:
    status = folded(uploaded(), processing(), retrying(), processing(2))
    assert (status.status, status.attempt, status.error) == (FileState.PROCESSING, 2, None)
    assert status.next_attempt_at is None


def test_a_completed_file_has_its_result_and_its_times() -> None:
    status = folded(uploaded(), processing(time=1), completed(time=9))
    assert status.status is FileState.COMPLETED
    assert status.result is not None
    assert status.result.statistics == {"pages": 2}
    assert (status.started_at, status.finished_at) == (at(1), at(9))
    assert status.progress is not None
    assert status.progress.percent == 100


def test_the_first_outcome_of_a_run_in_the_log_is_the_outcome() -> None:
    zombie_late = folded(uploaded(), processing(), processing(2), failed(2), completed(1))
    assert zombie_late.status is FileState.FAILED
    work_again_after_the_outcome = folded(uploaded(), processing(), completed(1), processing(2))
    assert work_again_after_the_outcome.status is FileState.COMPLETED
    assert work_again_after_the_outcome.attempt == 1


def test_a_new_run_starts_over_and_keeps_the_history() -> None:
    status = folded(
        uploaded(), processing(time=1), failed(), requeued(), processing(run=2, time=60)
    )
    assert (status.status, status.run, status.error) == (FileState.PROCESSING, 2, None)
    assert (status.created_at, status.started_at) == (at(0), at(60))
    assert [line.type for line in status.history] == [
        EventType.UPLOADED,
        EventType.PROCESSING,
        EventType.FAILED,
        EventType.REQUEUED,
        EventType.PROCESSING,
    ]


def test_a_deleted_file_keeps_no_personal_data_even_if_its_upload_is_seen_later() -> None:
    for status in (folded(uploaded(), deleted()), folded(deleted(), uploaded())):
        assert (status.name, status.owner, status.labels) == (None, None, {})
        assert status.deleted_at == at(99)


def test_a_file_is_cancelling_from_the_request_to_its_end() -> None:
    asked = folded(uploaded(), processing(), cancel_requested(), progressed())
    assert (asked.status, asked.phase) == (FileState.PROCESSING, "cancelling")
    assert asked.progress is not None
    assert [line.type for line in asked.history] == [EventType.UPLOADED, EventType.PROCESSING]
    ended = folded(uploaded(), processing(), cancelled(), cancel_requested())
    assert (ended.status, ended.phase) == (FileState.CANCELLED, "cancelled")
    assert ended == folded(uploaded(), processing(), cancelled())


def test_a_request_concerns_its_own_run_only() -> None:
    again = folded(uploaded(), cancel_requested(1), cancelled(), requeued(2))
    assert (again.status, again.phase) == (FileState.PENDING, "queued")
    early = folded(uploaded(), cancel_requested(2), failed())
    assert (early.status, early.phase) == (FileState.FAILED, "failed")
    late = folded(uploaded(), cancel_requested(2), failed(), requeued(2), processing(run=2))
    assert late.phase == "cancelling"


def test_of_two_requests_the_order_does_not_matter() -> None:
    one_way = folded(uploaded(), processing(), cancel_requested(1), cancel_requested(2))
    other_way = folded(uploaded(), processing(), cancel_requested(2), cancel_requested(1))
    assert one_way.phase == "cancelling"
    assert one_way == other_way


def test_the_reason_of_a_request_is_known_until_its_run_has_ended() -> None:
    first, second = cancel_requested(1, reason="too old"), cancel_requested(2, reason="a mistake")
    for requests in ((first, second), (second, first)):
        asked = folded(uploaded(), *requests, processing())
        assert (asked.cancel_run, asked.cancel_reason) == (2, "a mistake")
        ended = apply(apply(asked, requeued(2), 4), cancelled(1, run=2), 5)
        assert (ended.cancel_run, ended.cancel_reason) == (None, None)


def test_a_repeat_gives_back_the_same_object() -> None:
    events: list[StatusEvent] = [
        uploaded(),
        processing(),
        progressed(),
        retrying(),
        processing(2),
        cancel_requested(),
        completed(2),
    ]
    status = folded(*events)
    for offset, event in enumerate(events):
        assert apply(status, event, offset) is status


def test_events_that_change_nothing_give_back_the_same_object_and_leave_the_status_as_it_was() -> (
    None
):
    log: list[tuple[StatusEvent, int]] = [(uploaded(), 0), (processing(), 0)]
    status = fold(None, log)
    assert status is not None
    before = status.model_copy(deep=True)
    assert fold(status, log) is status
    after = fold(status, [*log, (completed(), 1)])
    assert after is not None
    assert status == before != after
    assert set(vars(after)) == set(Status.model_fields)


def test_the_history_is_bounded_and_keeps_the_latest_lines() -> None:
    events = [processing(attempt) for attempt in range(1, MAX_HISTORY + 20)]
    history = folded(*events).history
    assert len(history) == MAX_HISTORY
    assert history[-1].attempt == MAX_HISTORY + 19


def test_a_file_is_read_by_those_with_whom_it_was_shared_last() -> None:
    log: list[StatusEvent] = [uploaded(), shared("bob"), shared("carl"), unshared("bob")]
    status = folded(*log)
    assert readers(status.shares) == ["carl"]
    # A repeated event, as after a rebalance, does not restore revoked access.
    again = apply(status, shared("bob"), 1)
    assert again is status
    assert readers(apply(status, shared("bob"), 4).shares) == ["bob", "carl"]


def test_sharing_is_no_part_of_the_document_and_changes_nothing_else() -> None:
    before = folded(uploaded(), processing())
    after = apply(before, shared("bob"), 2)
    assert after != before
    assert after.model_dump_json() == before.model_dump_json()


def test_nobody_is_named_of_a_deleted_file() -> None:
    log: list[StatusEvent] = [uploaded(), shared("bob"), deleted()]
    for order in ([0, 1, 2], [0, 2, 1]):
        status = fold(None, [(log[offset], offset) for offset in order])
        assert status is not None
        assert readers(status.shares) == []
        assert [share.key for share in status.shares] == [reader_key("bob")]


LOG: list[StatusEvent] = [
    uploaded(),
    processing(1, pod="a"),
    processing(1, pod="b", time=1.5),
    progressed(1, done=1),
    progressed(2, done=2, time=2.5),
    retrying(1),
    processing(2, time=8),
    progressed(1, attempt=2, done=1, time=9),
    completed(2, time=12),
    failed(1, time=13),
    processing(3, time=14),
    requeued(2),
    processing(1, run=2, time=51),
    progressed(1, run=2, time=52),
    failed(1, run=2, time=53),
    cancelled(1, run=2, time=54),
    deleted(time=99),
    cancel_requested(1),
    cancel_requested(2, time=53.5),
    cancel_requested(2, time=53.6, reason="too late"),
    shared("bob"),
    shared("carl"),
    unshared("bob"),
    shared("bob", command="c3"),
]


@st.composite
def deliveries(
    draw: st.DrawFn,
) -> tuple[list[tuple[StatusEvent, int]], list[tuple[StatusEvent, int]]]:
    """Draw a log of a file's events and a delivery of it: permuted, with repeats."""
    size = draw(st.integers(1, len(LOG)))
    chosen = draw(st.permutations(LOG))[:size]
    log = [(event, offset) for offset, event in enumerate(chosen)]
    repeats = draw(st.lists(st.sampled_from(log), max_size=10))
    return log, draw(st.permutations(log + repeats))


@settings(max_examples=500, deadline=None)
@given(deliveries(), st.data())
def test_any_permutation_duplication_and_batching_folds_to_the_same_document(
    delivery: tuple[list[tuple[StatusEvent, int]], list[tuple[StatusEvent, int]]],
    data: st.DataObject,
) -> None:
    log, delivered = delivery
    expected = fold(None, log)
    assert expected is not None
    status: Status | None = None
    while delivered:
        size = data.draw(st.integers(1, len(delivered)))
        stored = fold(status, delivered[:size])
        assert stored is not None
        # Between batches the document is stored in the database and read again.
        document = stored.model_dump() | {
            "position": list(stored.position),
            "cancel_run": stored.cancel_run,
            "cancel_reason": stored.cancel_reason,
            "shares": stored.shares,
            "blob": stored.blob,
        }
        status = Status.model_validate(document)
        delivered = delivered[size:]
    assert status == expected
    assert status.file_id == FILE


@settings(max_examples=200, deadline=None)
@given(st.permutations(LOG))
def test_no_event_moves_a_file_away_from_the_outcome_of_its_run(log: list[StatusEvent]) -> None:
    status: Status | None = None
    for offset, event in enumerate(log):
        before, status = status, apply(status, event, offset)
        if before is not None and before.status.is_terminal and status.run == before.run:
            assert status.status is before.status
            assert status.result == before.result


@settings(max_examples=300, deadline=None)
@given(deliveries(), st.data())
def test_a_terminal_file_is_the_same_whether_or_not_its_requests_to_cancel_are_still_there(
    delivery: tuple[list[tuple[StatusEvent, int]], list[tuple[StatusEvent, int]]],
    data: st.DataObject,
) -> None:
    log, _ = delivery
    status = fold(None, log)
    assert status is not None
    forgotten = [(event, at) for event, at in log if not isinstance(event, FileCancelRequested)]
    settled = status.status.is_terminal and status.cancel_run is None
    assume(settled and len(forgotten) < len(log))
    assert fold(None, data.draw(st.permutations(forgotten))) == status


@given(st.permutations([(1, 19, 20), (2, 0, 1), (3, 1, 4), (4, 2, 20)]))
def test_progress_does_not_fall_within_an_attempt_in_whatever_order_it_comes(
    told: list[tuple[int, int, int]],
) -> None:
    status: Status | None = apply(apply(None, uploaded(), 0), processing(), 1)
    reached = []
    for offset, (seq, done, total) in enumerate(told, start=2):
        status = apply(status, progressed(seq, done=done, total=total), offset)
        assert status.progress is not None
        reached.append(status.progress.percent)
    assert reached == sorted(reached)
    assert reached[-1] == 95
    again = apply(status, processing(2, time=30), 20)
    assert again.progress is None
    first = apply(again, progressed(1, attempt=2, done=1, total=10), 21)
    assert first.progress is not None
    assert first.progress.percent == 10

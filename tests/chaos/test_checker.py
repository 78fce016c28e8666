"""The checker finds every kind of problem; otherwise a green run would prove nothing."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

import bson
import pytest
from bson.errors import InvalidDocument

from services.status.live.filter import Filter
from services.status.projection.projection import FileState, Status, fold
from shared.events.events import StatusEvent
from shared.events.facts import Failure
from shared.events.reading import UnreadableEventError, parse
from tests.chaos import clocks
from tests.chaos.attempts import LOST
from tests.chaos.checker import (
    ambiguous_outcomes,
    broken_promises,
    describe,
    drifted_files,
    endless_logs,
    fallen_services,
    forgotten_files,
    lost_letters,
    outcomes_that_moved,
    records_left_over,
    unexplained_attempts,
    unfinished_files,
    unplanned_outcomes,
)
from tests.chaos.evidence import Evidence, Logged, Origin
from tests.chaos.faults import (
    AWAY,
    MONGODB_FAULTS,
    RECOVERY,
    SKEW,
    STATUS_FAULTS,
    Hit,
    Kind,
    make_schedule,
)
from tests.chaos.gauges import Gauges
from tests.chaos.plan import PlannedFile, make_plan
from tests.chaos.poison import POISONS
from tests.chaos.stream_promises import ends_without_mongodb, late_states, states_told_wrong
from tests.chaos.view_promises import (
    FIRST_ONES,
    cut_texts,
    numbers_that_are_wrong,
    services_not_ready,
    stale_gauges,
    times_out_of_order,
    views_at_odds,
    wrong_times,
)
from tests.chaos.views import Views
from tests.journeys.gapless.checker import Observation, Seen, lifecycle_states, place
from tests.support.builders import (
    FILE,
    about,
    at,
    completed,
    failed,
    processing,
    retrying,
    uploaded,
)

PLANNED = PlannedFile(number=0, at=0, spec={}, status=FileState.COMPLETED)
KILLED = Hit(Kind.KILL, "pod-a", at(1.5), at(4))


def evidence(
    *events: StatusEvent, hits: Sequence[Hit] = (), planned: PlannedFile = PLANNED
) -> Evidence:
    """Build the evidence for one file from its events and its state in MongoDB."""
    history = [Logged(event, offset) for offset, event in enumerate(events)]
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    shown = {FILE: json.loads(status.model_dump_json())} if status else {}
    return Evidence(
        accepted={FILE: planned},
        histories={FILE: history},
        statuses={FILE: status} if status else {},
        hits=hits,
        views=Views(listed=shown, single=shown),
    )


def lost(attempt: int = 1) -> StatusEvent:
    """Build the event for an attempt whose pod is gone."""
    event = retrying(attempt)
    error = Failure(code="worker_crashed", message=LOST, retryable=True)
    return event.model_copy(update={"data": event.data.model_copy(update={"error": error})})


def test_a_run_in_which_nothing_happens_keeps_every_promise() -> None:
    assert broken_promises(evidence(uploaded(), processing(), completed())) == {}
    assert [*broken_promises(evidence(uploaded(), processing()))] == ["unfinished_files"]


def test_a_file_that_has_not_ended_is_found() -> None:
    assert list(unfinished_files(evidence(uploaded(), processing())))


def test_a_file_that_nobody_knows_is_found() -> None:
    assert list(unfinished_files(evidence()))


def test_a_file_that_ends_otherwise_than_planned_is_found() -> None:
    assert list(unplanned_outcomes(evidence(uploaded(), processing(), failed())))


def test_a_file_that_fails_for_another_reason_is_found() -> None:
    planned = replace(PLANNED, status=FileState.FAILED, codes=frozenset({"timed_out"}))
    run = evidence(uploaded(), processing(), failed(), planned=planned)
    assert list(unplanned_outcomes(run))


def test_a_file_whose_last_attempt_was_cut_off_by_a_fault_may_fail_for_that() -> None:
    planned = replace(PLANNED, status=FileState.FAILED, codes=frozenset({"timed_out"}), attempts=5)
    given_up = failed()
    error = Failure(code="worker_crashed", message=LOST, retryable=True)
    given_up = given_up.model_copy(
        update={"data": given_up.data.model_copy(update={"error": error})}
    )
    run = evidence(uploaded(), processing(), given_up, planned=planned)
    assert list(unplanned_outcomes(run))
    assert not list(unplanned_outcomes(replace(run, hits=[KILLED])))


def test_a_status_that_is_not_the_first_outcome_in_the_log_is_found() -> None:
    run = evidence(uploaded(), processing(), completed(), failed())
    assert not list(ambiguous_outcomes(run))
    wrong = run.statuses[FILE].model_copy(update={"status": FileState.FAILED})
    assert list(ambiguous_outcomes(replace(run, statuses={FILE: wrong})))


def test_an_event_that_moves_a_file_out_of_its_terminal_state_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = evidence(uploaded(), completed(), processing(2))
    assert not list(outcomes_that_moved(run))

    def latest_wins(_: Status | None, event: StatusEvent, offset: int) -> Status:
        moved = fold(None, [(event, offset)])
        assert moved is not None
        return moved

    monkeypatch.setattr("tests.chaos.checker.apply", latest_wins)
    assert list(outcomes_that_moved(run))


def test_an_attempt_without_a_cause_is_found() -> None:
    run = evidence(uploaded(), processing(), processing(2, time=3), completed(2))
    assert list(unexplained_attempts(run))
    assert list(unexplained_attempts(replace(run, hits=[KILLED])))


def test_an_attempt_that_was_made_twice_is_found() -> None:
    run = evidence(uploaded(), processing(), processing(time=3), completed())
    assert list(unexplained_attempts(run))
    assert not list(unexplained_attempts(replace(run, hits=[KILLED])))


def test_an_attempt_may_be_made_twice_after_one_that_no_pod_came_to_tell_of() -> None:
    run = evidence(uploaded(), processing(2, time=2), lost(), processing(2, time=3), completed(2))
    assert list(unexplained_attempts(run))
    assert not list(unexplained_attempts(replace(run, hits=[replace(KILLED, pod="pod-c")])))


def test_an_attempt_after_a_death_is_explained_by_a_fault_that_hit_its_pod_and_nothing_else() -> (
    None
):
    run = evidence(
        uploaded(), processing(), lost(), processing(2, pod="pod-b", time=3), completed(2)
    )
    assert list(unexplained_attempts(run))
    assert not list(unexplained_attempts(replace(run, hits=[KILLED])))
    assert list(unexplained_attempts(replace(run, hits=[replace(KILLED, pod="pod-c")])))
    for hours in (-1, 1):
        other = timedelta(hours=hours)
        at_another_time = replace(KILLED, begin=KILLED.begin + other, end=KILLED.end + other)
        assert list(unexplained_attempts(replace(run, hits=[at_another_time])))


def test_a_retry_that_the_plan_does_not_know_is_found() -> None:
    events = (uploaded(), processing(), retrying(), processing(2), completed(2))
    assert list(unexplained_attempts(evidence(*events)))
    planned = replace(PLANNED, codes=frozenset({"demo_retry"}), attempts=2)
    assert not list(unexplained_attempts(evidence(*events, planned=planned)))


def test_an_attempt_that_failed_for_want_of_room_is_explained_by_a_full_disk_alone() -> None:
    no_room = retrying()
    error = Failure(code="disk_full", message="There is no room.", retryable=True)
    no_room = no_room.model_copy(update={"data": no_room.data.model_copy(update={"error": error})})
    run = evidence(uploaded(), processing(), no_room, processing(2, time=3), completed(2))
    assert list(unexplained_attempts(replace(run, hits=[KILLED])))
    filled = replace(KILLED, kind=Kind.FILL_SCRATCH, pod=None)
    assert not list(unexplained_attempts(replace(run, hits=[filled])))


def test_what_is_left_over_lost_fallen_flooded_or_drifted_is_found() -> None:
    run = evidence(uploaded(), completed())
    assert list(forgotten_files(replace(run, unknown=[FILE])))
    assert list(records_left_over(replace(run, lag=1)))
    assert list(lost_letters(replace(run, unreadable=[Origin("file.uploaded", 0, 7)])))
    assert list(fallen_services(replace(run, fallen=["pod-1 ended with exit code 1"])))
    assert list(endless_logs(replace(run, logs={"pod-1": 1 << 30})))
    assert list(drifted_files(replace(run, drift="1 files compared: 1 differ")))


def test_a_view_that_says_something_else_than_the_log_is_found() -> None:
    run = evidence(uploaded(), processing(), completed())
    shown = run.views.listed[FILE]
    assert not list(views_at_odds(run))
    for document in ({**shown, "status": "pending"}, {**shown, "invented": 1}, {}):
        documents = {FILE: document} if document else {}
        for views in (replace(run.views, listed=documents), replace(run.views, single=documents)):
            assert list(views_at_odds(replace(run, views=views))), document
    unknown = {"unknown": {**shown, "file_id": "unknown"}}
    views = replace(run.views, listed={**run.views.listed, **unknown})
    assert list(views_at_odds(replace(run, views=views)))


def test_a_list_may_leave_out_the_history_and_a_file_alone_may_tell_its_place_in_the_queue() -> (
    None
):
    run = evidence(uploaded(), completed())
    shown = run.views.listed[FILE]
    listed = {name: value for name, value in shown.items() if name != "history"}
    views = replace(run.views, listed={FILE: listed}, single={FILE: {**shown, "queue": None}})
    assert not list(views_at_odds(replace(run, views=views)))


def test_a_file_that_ends_before_it_began_is_found() -> None:
    run = evidence(uploaded(), processing(time=1), completed(time=2))
    assert not list(times_out_of_order(run))
    for wrong in ({"finished_at": at(-9)}, {"started_at": at(9)}, {"created_at": at(9)}):
        status = run.statuses[FILE].model_copy(update=wrong)
        assert list(times_out_of_order(replace(run, statuses={FILE: status}))), wrong


def test_events_that_tell_a_wrong_time_are_found_but_for_the_first_ones_of_a_wrong_clock() -> None:
    def told(wrong: int) -> Evidence:
        run = evidence(uploaded(), processing(), completed())
        history = [
            each._replace(appended=each.event.time + SKEW * (number < wrong))
            for number, each in enumerate(list(run.histories[FILE]) * 10)
        ]
        return replace(run, histories={FILE: history})

    assert not list(wrong_times(told(0)))
    assert list(wrong_times(told(1)))
    hit = replace(KILLED, kind=Kind.FAST_CLOCK)
    assert not list(wrong_times(replace(told(1), hits=[hit])))
    assert list(wrong_times(replace(told(FIRST_ONES + 1), hits=[hit])))


def test_uploads_of_a_wrong_clock_that_waited_for_kafka_may_have_its_time() -> None:
    run = evidence(uploaded(), processing(), completed())
    first, *rest = run.histories[FILE]
    late = first._replace(appended=first.event.time + SKEW)
    clock = replace(KILLED, kind=Kind.WRONG_SERVICE_CLOCKS, begin=late.time, end=late.time)
    outage = replace(clock, kind=Kind.STOP_BROKER)
    waited = replace(run, histories={FILE: [late, *rest] * (FIRST_ONES + 1)})
    assert list(wrong_times(replace(waited, hits=[clock])))
    assert not list(wrong_times(replace(waited, hits=[clock, outage])))
    much_later = replace(outage, begin=late.time + SKEW, end=late.time + SKEW)
    assert list(wrong_times(replace(waited, hits=[clock, much_later])))


def test_a_text_that_was_cut_is_found() -> None:
    planned = replace(PLANNED, text=50)
    run = evidence(uploaded(), completed(), planned=planned)
    for text, is_whole in ((planned.content, True), (planned.content[:-1], False)):
        views = replace(run.views, texts={FILE: sha256(text).hexdigest()})
        assert bool(list(cut_texts(replace(run, views=views)))) is not is_whole


def test_numbers_that_are_wrong_or_missing_are_found() -> None:
    run = evidence(uploaded(), completed())
    right = {"files": {"completed": 1, "failed": 0}, "queue": {"length": 0}, "lag": {"p": {"t": 0}}}
    wrong = (
        {"code": "catching_up"},
        right | {"files": {"completed": 0, "failed": 0}},
        right | {"queue": {"length": 1}},
        right | {"lag": {"p": {"t": 1}}},
    )
    for numbers in (right, *wrong):
        views = replace(run.views, numbers={"status": numbers})
        found = list(numbers_that_are_wrong(replace(run, views=views)))
        assert bool(found) is (numbers is not right), numbers


def test_a_service_that_is_not_ready_is_found() -> None:
    run = evidence(uploaded(), completed())
    views = replace(run.views, not_ready={"pod-1": "waiting for Kafka"})
    assert not list(services_not_ready(run))
    assert list(services_not_ready(replace(run, views=views)))


def test_a_gauge_that_is_wrong_or_a_loop_that_is_late_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.chaos.gauges.late_after_of", {"monitor": 30.0}.get)
    run = evidence(uploaded(), completed())
    right = {("waybill_files", "completed"): 1.0, ("waybill_files", "failed"): 0.0}
    wrong = (
        {("waybill_files", "completed"): 0.0},
        {("waybill_work_in_flight", ""): 1.0},
        {("waybill_loop_last_success_seconds", "monitor"): 900.0},
    )
    for values in (right, *wrong):
        views = replace(run.views, gauges={"status": Gauges(1000.0, values)})
        found = list(stale_gauges(replace(run, views=views)))
        assert bool(found) is (values is not right), values


def watched(*, heard: float, states: int = 3) -> tuple[Observation, list[StatusEvent]]:
    """Return what a watcher received for a file, and the file's history."""
    events: list[StatusEvent] = [uploaded(), processing(time=100), completed(time=100)]
    told = lifecycle_states((event, offset) for offset, event in enumerate(events))[:states]
    seen = [Seen(FILE, place(status), str(status.status), 1) for status in told]
    heard_at: list[datetime] = [at(heard)] * len(seen)
    return Observation("all", Filter(), seen, heard_at=heard_at), events


def test_a_state_that_a_watcher_was_not_told_or_told_twice_is_found() -> None:
    observation, events = watched(heard=101)
    run = evidence(*events)
    assert not list(states_told_wrong(replace(run, observations=[observation])))
    assert list(states_told_wrong(replace(run, observations=[watched(heard=1, states=2)[0]])))
    twice = replace(observation, seen=[*observation.seen, observation.seen[-1]])
    assert list(states_told_wrong(replace(run, observations=[twice])))


def test_an_end_that_a_watcher_heard_late_is_found_if_only_mongodb_was_away() -> None:
    without = Hit(Kind.STOP_MONGODB, None, at(50), at(230))
    for heard, is_late in ((101, False), (180, True)):
        observation, events = watched(heard=heard)
        run = replace(evidence(*events, hits=[without]), observations=[observation])
        assert bool(list(late_states(run))) is is_late
        assert ends_without_mongodb(run) == 1
        frozen = Hit(Kind.FREEZE_BROKER, None, at(90), at(135))
        assert not list(late_states(replace(run, hits=[without, frozen])))
    unheard, events = watched(heard=101, states=2)
    run = replace(evidence(*events, hits=[without]), observations=[unheard])
    assert list(late_states(run))


def test_a_broken_promise_is_told_with_the_whole_history_of_its_file() -> None:
    other = about("01930000-0000-7000-8000-000000000002", uploaded())
    run = evidence(uploaded(), processing(), hits=[KILLED])
    run = replace(run, histories={**run.histories, other.file_id: [Logged(other, 0)]})
    told = describe(run, unfinished_files(run))
    for part in ("kill pod-a", FILE, "file.uploaded", "file.processing", "'pod': 'pod-a'"):
        assert part in told
    assert other.file_id not in told


def test_the_same_seed_gives_the_same_plan_and_the_same_schedule() -> None:
    def both(seed: int) -> tuple[object, object]:
        kinds = [*Kind] * 3
        return (
            make_plan(seed, files=200, seconds=20),
            make_schedule(seed, kinds, slots=3, gap=(1, 3)),
        )

    assert both(7) == both(7)
    assert both(7)[0] != both(8)[0]
    assert both(7)[1] != both(8)[1]


def test_no_status_service_is_started_while_mongodb_is_away() -> None:
    for seed in range(50):
        schedule = make_schedule(seed, [*Kind] * 2, slots=3, gap=(4, 8))
        assert [fault.at for fault in schedule] == sorted(fault.at for fault in schedule)
        for start in (fault for fault in schedule if fault.kind in STATUS_FAULTS):
            for away in (fault for fault in schedule if fault.kind in MONGODB_FAULTS):
                assert (
                    start.at + RECOVERY[start.kind] < away.at + 0.1
                    or away.at + AWAY[away.kind] < start.at
                ), (seed, start, away)


@pytest.mark.parametrize("what", POISONS)
def test_poison_cannot_be_read_or_cannot_be_stored(what: str) -> None:
    try:
        event = parse(POISONS[what](FILE))
    except UnreadableEventError:
        return
    assert event is not None
    assert event.file_id == FILE
    with pytest.raises((OverflowError, InvalidDocument)):
        bson.encode(event.data.model_dump())


def test_a_text_has_the_length_that_was_planned_and_other_words_than_the_next() -> None:
    plan = make_plan(7, files=400, seconds=20, texts=10)
    texts = [file for file in plan.files if file.text]
    assert 20 <= len(texts) <= 80
    assert all(len(file.content) == file.text for file in texts)
    assert len({file.sha256 for file in texts}) == len(texts)
    assert not [file for file in make_plan(7, files=400, seconds=20).files if file.text]


def test_a_file_with_a_result_that_cannot_be_stored_is_planned_to_fail_for_that() -> None:
    plan = make_plan(7, files=400, seconds=20, scripts=20)
    scripts = [file for file in plan.files if file.script]
    assert {file.status for file in scripts} == {FileState.FAILED, FileState.COMPLETED}
    assert {code for file in scripts for code in file.codes} >= {"bad_result", "step_failed"}
    assert all(file.name.endswith(".poison") for file in scripts)


@pytest.mark.skipif(not clocks.can_be_wrong(), reason="there is no C compiler")
def test_a_process_with_a_wrong_clock_sleeps_and_waits_as_any_other() -> None:
    program = """
import multiprocessing, threading, time
time.sleep(0.01)
threading.Event().wait(0.01)
multiprocessing.Semaphore(0).acquire(timeout=0.01)
print(time.time())
"""
    for skew in (-SKEW, SKEW):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **clocks.environment(skew)},
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
        )
        assert abs(float(done.stdout) - time.time() - skew.total_seconds()) < 600

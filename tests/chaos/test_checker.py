"""The checker finds what it is there to find; otherwise a green run would mean nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from services.status.projection import State, Status, fold
from shared.events import StatusEvent
from shared.facts import Failure
from tests.chaos.checker import (
    LOST,
    ambiguous_outcomes,
    check,
    drifted_files,
    endless_logs,
    fallen_services,
    lost_letters,
    outcomes_that_moved,
    records_left_over,
    tell,
    unexplained_attempts,
    unfinished_files,
    unplanned_outcomes,
)
from tests.chaos.evidence import Evidence, Logged, Origin
from tests.chaos.faults import Hit, Kind, make_schedule
from tests.chaos.plan import PlannedFile, make_plan
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

PLANNED = PlannedFile(number=0, at=0, spec={}, status=State.COMPLETED)
KILLED = Hit(Kind.KILL, "pod-a", at(1.5), at(4))


def evidence(
    *events: StatusEvent, hits: Sequence[Hit] = (), planned: PlannedFile = PLANNED
) -> Evidence:
    """What one file's events are, and what MongoDB makes of them."""
    history = [Logged(event, offset) for offset, event in enumerate(events)]
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    return Evidence(
        accepted={FILE: planned},
        histories={FILE: history},
        statuses={FILE: status} if status else {},
        hits=hits,
    )


def lost(attempt: int = 1) -> StatusEvent:
    """The news that the pod of an attempt is gone."""
    event = retrying(attempt)
    error = Failure(code="worker_crashed", message=LOST, retryable=True)
    return event.model_copy(update={"data": event.data.model_copy(update={"error": error})})


def test_a_run_in_which_nothing_happens_keeps_every_promise() -> None:
    assert check(evidence(uploaded(), processing(), completed())) == []


def test_a_file_that_has_not_ended_is_found() -> None:
    assert list(unfinished_files(evidence(uploaded(), processing())))


def test_a_file_that_nobody_knows_is_found() -> None:
    assert list(unfinished_files(evidence()))


def test_a_file_that_ends_otherwise_than_planned_is_found() -> None:
    assert list(unplanned_outcomes(evidence(uploaded(), processing(), failed())))


def test_a_file_that_fails_for_another_reason_is_found() -> None:
    planned = replace(PLANNED, status=State.FAILED, codes=frozenset({"timed_out"}))
    run = evidence(uploaded(), processing(), failed(), planned=planned)
    assert list(unplanned_outcomes(run))


def test_a_file_whose_last_attempt_was_cut_off_by_a_fault_may_fail_for_that() -> None:
    planned = replace(PLANNED, status=State.FAILED, codes=frozenset({"timed_out"}), attempts=5)
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
    wrong = run.statuses[FILE].model_copy(update={"status": State.FAILED})
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


def test_what_is_left_over_lost_fallen_flooded_or_drifted_is_found() -> None:
    run = evidence(uploaded(), completed())
    assert list(records_left_over(replace(run, lag=1)))
    assert list(lost_letters(replace(run, unreadable=[Origin("file.uploaded", 0, 7)])))
    assert list(fallen_services(replace(run, fallen=["pod-1 ended with exit code 1"])))
    assert list(endless_logs(replace(run, logs={"pod-1": 1 << 30})))
    assert list(drifted_files(replace(run, drift="1 files compared: 1 differ")))


def test_a_broken_promise_is_told_with_the_whole_history_of_its_file() -> None:
    other = about("01930000-0000-7000-8000-000000000002", uploaded())
    run = evidence(uploaded(), processing(), hits=[KILLED])
    run = replace(run, histories={**run.histories, other.file_id: [Logged(other, 0)]})
    told = tell(run, unfinished_files(run))
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

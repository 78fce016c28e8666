"""Nobody misses a state, whichever pod dies: the short form of `make gapless`."""

import random
from pathlib import Path

import pytest

from services.status.live.filter import Filter
from services.status.projection.projection import FileState, Status, fold
from shared.events.events import StatusEvent
from shared.settings import Settings
from tests.journeys.gapless.checker import Observation, Seen, check, place
from tests.journeys.gapless.run import Size, run
from tests.support.builders import FILE, completed, processing, retrying, uploaded

SHORT = Size(observers=50, rate=100.0, seconds=10.0, restarts=2, patience=5.0)


async def test_fifty_observers_see_every_state_while_pods_die_and_connections_break(
    settings: Settings, tmp_path: Path
) -> None:
    report = await run(settings, tmp_path, SHORT, seed=random.randrange(1 << 30))
    assert report.problems == [], "\n".join(report.lines())
    assert report.states_told > report.events
    assert report.connections > SHORT.observers


EVENTS: list[StatusEvent] = [uploaded(), processing(), retrying(), processing(2), completed(2)]


def lifecycle() -> list[Status]:
    states: list[Status] = []
    for offset, event in enumerate(EVENTS):
        status = fold(states[-1] if states else None, [(event, offset)])
        assert status is not None
        states.append(status)
    return states


STATES = lifecycle()
TRUTH = {FILE: STATES}
ALL_FILES = Filter()
ALL = [Seen(FILE, place(status), str(status.status), 1) for status in STATES]


def kinds(
    *seen: Seen, wanted: Filter = ALL_FILES, from_the_start: bool = True, resets: int = 0
) -> list[str]:
    observation = Observation("somebody", wanted, list(seen), from_the_start, resets)
    return [problem.kind for problem in check(TRUTH, [observation])]


def test_the_checker_counts_from_the_connection_that_brought_the_first_cursor() -> None:
    again = [seen._replace(connection=2) for seen in ALL[3:]]
    late = Observation("late", ALL_FILES, [ALL[0], *again], from_the_start=False, first_cursor=2)
    assert list(check(TRUTH, [late])) == []
    late.first_cursor = 1
    assert [problem.kind for problem in check(TRUTH, [late])] == ["gap"]


def test_who_saw_everything_in_order_has_nothing_to_complain_of() -> None:
    assert kinds(*ALL) == []


@pytest.mark.parametrize("missing", range(len(ALL)))
def test_the_checker_finds_each_state_that_is_missing(missing: int) -> None:
    assert kinds(*ALL[:missing], *ALL[missing + 1 :]) == ["gap"]


@pytest.mark.parametrize("number", range(len(ALL) - 1))
def test_the_checker_finds_each_step_back(number: int) -> None:
    swapped = [*ALL[:number], ALL[number + 1], ALL[number], *ALL[number + 2 :]]
    assert kinds(*swapped) == ["step back"]


def test_the_checker_finds_progress_that_comes_late() -> None:
    late = ALL[1]._replace(position=(1, 0, 1, 2, 7, -3))
    assert kinds(*ALL, late) == ["step back"]
    assert kinds(*ALL[:2], late, *ALL[2:]) == []


def test_what_is_told_again_after_a_break_is_no_repeat_and_over_one_connection_it_is() -> None:
    assert kinds(*ALL[:3], *(each._replace(connection=2) for each in ALL[1:])) == []
    assert kinds(*ALL[:2], ALL[1], *ALL[2:]) == ["repeat"]


def test_a_state_that_knows_more_than_before_is_no_repeat() -> None:
    richer = ALL[1]._replace(document=1)
    assert kinds(*ALL[:2], richer, *ALL[2:]) == []
    assert kinds(*ALL[:2], richer, richer, *ALL[2:]) == ["repeat"]


def test_the_checker_finds_what_is_in_no_log() -> None:
    wrong = ALL[2]._replace(status="failed")
    assert "invented" in kinds(*ALL[:2], wrong, *ALL[2:])
    assert kinds(*ALL, ALL[0]._replace(file_id="other")) == ["invented"]


def test_a_filter_says_which_states_must_be_seen() -> None:
    pending = Filter(status=FileState.PENDING)
    assert kinds(ALL[0], ALL[2], wanted=pending) == []
    assert kinds(ALL[2], wanted=pending) == ["gap"]
    assert kinds(wanted=Filter(owner="somebody else")) == []


def test_who_came_later_must_see_all_from_then_on_and_the_last_in_any_case() -> None:
    assert kinds(*ALL[2:], from_the_start=False) == []
    assert kinds(ALL[2], ALL[4], from_the_start=False) == ["gap"]
    assert kinds(from_the_start=False) == ["gap"]


def test_a_reset_is_told() -> None:
    assert kinds(*ALL, resets=1) == ["reset"]

"""A history tells how long each attempt waited for its turn, and how long it took."""

from services.status.history import with_durations
from services.status.projection import fold
from shared.events import StatusEvent
from tests.support.builders import completed, processing, requeued, retrying, uploaded


def durations(*events: StatusEvent) -> list[tuple[str, float | None, float | None]]:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    return [
        (line.type.removeprefix("file."), line.waited_seconds, line.took_seconds)
        for line in with_durations(status.history)
    ]


def test_an_attempt_waits_from_when_it_could_begin_and_takes_until_it_ends() -> None:
    assert durations(
        uploaded(time=0),
        processing(time=4),
        retrying(time=6),  # The next attempt is due five seconds later.
        processing(2, time=12),
        completed(2, time=15),
        requeued(time=50),
        processing(run=2, time=50.5),
    ) == [
        ("uploaded", None, None),
        ("processing", 4, None),
        ("retrying", None, 2),
        ("processing", 1, None),
        ("completed", None, 3),
        ("requeued", None, None),
        ("processing", 0.5, None),
    ]


def test_clocks_that_disagree_make_no_negative_durations() -> None:
    assert durations(uploaded(time=2), processing(time=1), completed(time=0)) == [
        ("uploaded", None, None),
        ("processing", 0, None),
        ("completed", None, 0),
    ]


def test_what_is_not_known_has_no_duration() -> None:
    assert durations(completed()) == [("completed", None, None)]

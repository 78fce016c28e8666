"""A file is stuck without an event for longer than its limits allow, and the report says why."""

import pytest

from services.status.monitoring.stuck import stuck
from services.status.projection.projection import fold
from shared.events.events import StatusEvent
from tests.support.builders import (
    at,
    completed,
    deleted,
    processing,
    progressed,
    retrying,
    uploaded,
)

WORKED_ON: list[StatusEvent] = [uploaded(), processing(time=10)]
LONG: list[StatusEvent] = [uploaded(), processing(time=10, time_limit=7200)]


@pytest.mark.parametrize(
    ("events", "now", "moving", "reason"),
    [
        (WORKED_ON, 900, True, None),
        (WORKED_ON, 971, True, "limit of 900 s"),
        ([*WORKED_ON, progressed(time=500)], 1400, True, None),
        (LONG, 7000, True, None),
        (LONG, 7271, True, "limit of 7200 s"),
        ([*LONG, progressed(time=500)], 7000, True, None),
        ([*LONG, retrying(time=20), processing(2, time=30)], 991, True, "limit of 900 s"),
        ([uploaded()], 50, False, None),
        ([uploaded()], 70, False, "no processor runs"),
        ([uploaded()], 70, None, None),
        ([uploaded()], 3000, True, None),
        ([uploaded()], 3700, True, "too few processors"),
        ([uploaded(), processing(), retrying(time=3)], 60, False, None),
        ([uploaded(), processing(), retrying(time=3)], 70, False, "no processor runs"),
        ([*WORKED_ON, completed()], 10_000, False, None),
        ([uploaded(), deleted()], 10_000, False, None),
    ],
    ids=[
        "worked on within its limit",
        "worked on beyond its limit",
        "reported progress",
        "worked on within a longer limit of its own",
        "worked on beyond a limit of its own",
        "reported progress, with a limit of its own",
        "an earlier attempt had a limit of its own",
        "just uploaded",
        "nothing moves",
        "not known whether anything moves",
        "in a long queue",
        "in a queue for too long",
        "waiting for its next attempt",
        "its next attempt is not begun",
        "ended",
        "deleted",
    ],
)
def test_a_silent_file_is_stuck_for_a_reason(
    events: list[StatusEvent], now: float, moving: bool | None, reason: str | None
) -> None:
    status = fold(None, [(event, offset) for offset, event in enumerate(events)])
    assert status is not None
    found = stuck(status, at(now), time_limit=900, moving=moving)
    assert (found is None) == (reason is None)
    if found is not None and reason is not None:
        assert reason in found.reason
        assert found.file_id == status.file_id

"""Without MongoDB, live updates continue for files whose events are all in the tail."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.status.live.cursor import TOPICS, Partition
from services.status.live.overlay import Observed, Overlay
from services.status.projection.projection import FileState, Status, fold
from services.status.store.access import Visibility
from shared.events.events import StatusEvent, new_file_id, utc_now
from shared.events.topics import LIFECYCLE, UPLOADED
from tests.support.builders import about, completed, processing, progressed, uploaded

UPLOADS = Partition(TOPICS.index(UPLOADED), 3)
ENDS = Partition(TOPICS.index(LIFECYCLE), 3)


def observed(
    file_id: str, event: StatusEvent, partition: Partition | None, offset: int
) -> Observed:
    return Observed(about(file_id, event), partition, 3, offset)


def an_overlay(began_ago: float = 60.0) -> Overlay:
    overlay = Overlay()
    overlay.begin({UPLOADS: 10, ENDS: 100}, utc_now() - timedelta(seconds=began_ago))
    return overlay


def states(overlay: Overlay, events: Sequence[Observed], *, away: bool = True) -> list[FileState]:
    """Return the states that these events lead to while MongoDB is unavailable."""
    unread = overlay.unheld({each.event.subject for each in events}) if away else set()
    told = overlay.fold(events, {}, overdue=[], read={}, now=0.0, unread=unread)
    return [each.status.status for each in told]


def test_a_file_that_is_uploaded_meanwhile_is_told_from_beginning_to_end() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    assert states(overlay, [observed(file_id, uploaded(), UPLOADS, 10)]) == [FileState.PENDING]
    assert states(overlay, [observed(file_id, processing(), ENDS, 100)]) == [FileState.PROCESSING]
    assert states(overlay, [observed(file_id, completed(), ENDS, 101)]) == [FileState.COMPLETED]
    assert overlay.set_aside == 0


def test_a_lifecycle_that_is_read_before_the_upload_is_told_with_it() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    assert states(overlay, [observed(file_id, processing(), ENDS, 100)]) == []
    told = states(overlay, [observed(file_id, uploaded(), UPLOADS, 10)])
    assert told == [FileState.PENDING, FileState.PROCESSING]
    assert overlay.set_aside == 0


def test_events_of_a_file_that_is_not_known_are_set_aside_and_told_with_its_document() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    assert states(overlay, [observed(file_id, processing(), ENDS, 100)]) == []
    assert states(overlay, [observed(file_id, completed(), ENDS, 101)]) == []
    assert overlay.set_aside == 2
    assert overlay.get(file_id) is None
    # No cursor passes an undelivered state, so a client that reconnects receives it.
    assert overlay.cursor()[ENDS] == 100
    # Nothing is published without the document, however long it takes.
    assert overlay.overdue(1e9, at_end=True) == []
    assert overlay.unread(10) == [file_id]
    document = fold(None, [(about(file_id, uploaded()), 5)])
    assert document is not None
    told = overlay.recall([file_id], {file_id: document}, 1.0)
    assert [each.status.status for each in told] == [FileState.PROCESSING, FileState.COMPLETED]
    assert overlay.cursor()[ENDS] == 102
    assert overlay.unread(10) == []


def test_a_document_that_is_ahead_when_mongodb_is_back_leads_to_no_gap() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    states(overlay, [observed(file_id, processing(), ENDS, 100)])
    story = (uploaded(), 5), (processing(), 100), (completed(), 101)
    document = fold(None, [(about(file_id, event), offset) for event, offset in story])
    assert document is not None
    told = overlay.recall([file_id], {file_id: document}, 1.0)
    assert [each.status.status for each in told] == [FileState.PROCESSING]
    told_after = overlay.fold(
        [observed(file_id, completed(), ENDS, 101)], {}, overdue=[], read={}, now=2.0
    )
    assert [each.status.status for each in told_after] == [FileState.COMPLETED]


def test_what_comes_once_mongodb_answers_brings_what_was_set_aside_before_it() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    states(overlay, [observed(file_id, processing(), ENDS, 100)])
    document = fold(None, [(about(file_id, uploaded()), 5)])
    assert document is not None
    told = overlay.fold(
        [observed(file_id, completed(), ENDS, 101)],
        {file_id: document},
        overdue=[],
        read={},
        now=2.0,
    )
    assert [each.status.status for each in told] == [FileState.PROCESSING, FileState.COMPLETED]


def test_an_upload_that_is_older_than_the_tail_may_be_a_repeat_and_is_set_aside() -> None:
    file_id = new_file_id()
    overlay = an_overlay(began_ago=-60.0)  # The id is older than that.
    assert states(overlay, [observed(file_id, uploaded(), UPLOADS, 10)]) == []
    assert overlay.get(file_id) is None
    assert overlay.set_aside == 1


def test_of_progress_that_is_set_aside_only_the_latest_is_kept() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    for number in range(50):
        states(overlay, [observed(file_id, progressed(), None, number)])
    assert overlay.set_aside == 1


def test_what_waits_for_its_cause_when_mongodb_goes_away_is_not_told_without_it() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    assert states(overlay, [observed(file_id, completed(), ENDS, 100)], away=False) == []
    late = overlay.overdue(10.0, at_end=True)
    assert late == [file_id]
    told = overlay.fold([], {}, overdue=late, read={}, now=10.0, unread={file_id})
    assert told == []
    assert overlay.set_aside == 1


@pytest.mark.parametrize("owner", ["ann", "ben"])
def test_who_may_see_a_file_that_came_meanwhile_is_known_from_its_upload(owner: str) -> None:
    overlay, file_id = an_overlay(), new_file_id()
    mine = about(file_id, uploaded())
    mine = mine.model_copy(update={"data": mine.data.model_copy(update={"owner": "ann"})})
    overlay.fold(
        [Observed(mine, UPLOADS, 3, 10)], {}, overdue=[], read={}, now=0.0, unread={file_id}
    )
    held = overlay.get(file_id)
    assert held is not None
    assert Visibility(owner=owner).permits(held.audience) is (owner == "ann")


def test_nothing_is_dropped_that_the_projector_has_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.status.live.overlay.MAX_HELD", 3)
    overlay = an_overlay()
    ids = [new_file_id() for _ in range(6)]
    events = [observed(each, uploaded(), UPLOADS, 10 + n) for n, each in enumerate(ids)]
    overlay.fold(events, {}, overdue=[], read={}, now=0.0, unread=set(ids), may_drop=False)
    assert overlay.held == 6
    overlay.fold([], {}, overdue=[], read={}, now=0.0)
    assert overlay.held == 3


def test_a_status_without_an_upload_is_shown_to_nobody() -> None:
    assert not Visibility(owner=None).permits(Status(file_id=new_file_id()))


def test_an_upload_that_comes_with_mongodb_away_frees_an_event_that_is_overdue() -> None:
    overlay, file_id = an_overlay(), new_file_id()
    assert states(overlay, [observed(file_id, processing(), ENDS, 100)], away=False) == []
    late = overlay.overdue(10.0, at_end=True)
    upload = [observed(file_id, uploaded(), UPLOADS, 10)]
    told = overlay.fold(upload, {}, overdue=late, read={}, now=10.0, unread={file_id})
    assert [each.status.status for each in told] == [FileState.PENDING, FileState.PROCESSING]


def test_a_repeat_of_the_upload_of_a_file_that_was_dropped_is_set_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.status.live.overlay.MAX_HELD", 0)
    overlay, file_id = an_overlay(), new_file_id()
    states(overlay, [observed(file_id, uploaded(), UPLOADS, 10)])
    assert overlay.held == 0
    assert states(overlay, [observed(file_id, uploaded(), UPLOADS, 11)]) == []
    assert overlay.set_aside == 1

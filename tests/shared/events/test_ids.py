"""File ids carry the correct time, even if thousands are created at once."""

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

from shared.events.events import file_id_age, first_file_id, new_file_id

MANY = 5000
"""Number of ids, which takes far fewer milliseconds."""


def test_ids_are_of_version_7_and_none_is_like_another() -> None:
    ids = [UUID(new_file_id()) for _ in range(MANY)]
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    assert len({each.int & (1 << 62) - 1 for each in ids}) == MANY


def test_ids_are_sorted_by_the_time_of_their_making() -> None:
    ids = [new_file_id() for _ in range(MANY)]
    assert ids == sorted(ids)


def test_many_at_once_are_not_of_the_future() -> None:
    begin = first_file_id(datetime.now(UTC))
    ids = [new_file_id() for _ in range(MANY)]
    ages = [file_id_age(each, datetime.now(UTC)) for each in ids]
    assert min(ids) >= begin
    assert all(age is not None and 0 <= age < 10 for age in ages)

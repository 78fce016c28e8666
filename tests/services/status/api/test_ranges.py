"""Conditional and partial requests, according to RFC 9110."""

from datetime import UTC, datetime, timedelta

import pytest

from services.status.api.ranges import (
    ByteRange,
    Validators,
    is_unmodified,
    names,
    requested_range,
)
from shared.errors import PreconditionFailedError, RangeNotSatisfiableError

MODIFIED = datetime(2026, 11, 25, 9, 0, 0, 400_000, tzinfo=UTC)
SAME, BEFORE, AFTER = (
    f"Wed, 25 Nov 2026 {time} GMT" for time in ("09:00:00", "08:59:59", "09:00:01")
)
KNOWN = Validators('"tag"', MODIFIED)
NOW = MODIFIED + timedelta(hours=1)


def part(header: str, *, size: int = 100, **others: str) -> tuple[int, int] | None:
    headers = {"range": header} | {name.replace("_", "-"): value for name, value in others.items()}
    found = requested_range(headers, KNOWN, size=size, now=NOW)
    return None if found is None else (found.start, found.end)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=10-", (10, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=90-1000", (90, 100)),
        ("Bytes= 0-1 ", (0, 2)),
        ("bytes=0-1,5-6", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=\u0661-", None),
        ("lines=0-1", None),
        ("", None),
    ],
)
def test_a_single_range_is_answered_and_what_is_none_is_ignored(
    header: str, found: tuple[int, int] | None
) -> None:
    assert part(header) == found


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)],
)
def test_a_range_beyond_the_end_is_refused(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiableError):
        part(header, size=size)


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        ('"tag"', True),
        ('"other"', False),
        ('W/"tag"', False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        ("yesterday", False),
    ],
)
def test_a_range_of_another_content_is_answered_with_the_whole(
    if_range: str, *, applies: bool
) -> None:
    assert part("bytes=0-0", if_range=if_range) == ((0, 1) if applies else None)


def test_a_date_of_this_second_tells_no_two_contents_apart() -> None:
    headers = {"range": "bytes=0-0", "if-range": SAME}
    now = MODIFIED + timedelta(seconds=0.5)
    assert requested_range(headers, KNOWN, size=10, now=now) is None


@pytest.mark.parametrize(
    ("headers", "unmodified"),
    [
        ({}, False),
        ({"if-none-match": '"tag"'}, True),
        ({"if-none-match": 'W/"tag"'}, True),
        ({"if-none-match": '"a,b", "tag"'}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": '"other"'}, False),
        ({"if-modified-since": SAME}, True),
        ({"if-modified-since": AFTER}, True),
        ({"if-modified-since": BEFORE}, False),
        ({"if-modified-since": "never"}, False),
        ({"if-none-match": '"other"', "if-modified-since": SAME}, False),
        ({"if-match": '"tag"'}, False),
        ({"if-match": "*", "if-none-match": '"tag"'}, True),
        ({"if-unmodified-since": SAME}, False),
        ({"if-match": '"tag"', "if-unmodified-since": BEFORE}, False),
    ],
)
def test_a_client_that_has_the_content_is_told_so(
    headers: dict[str, str], *, unmodified: bool
) -> None:
    assert is_unmodified(headers, KNOWN) == unmodified


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": '"other"'},
        {"if-match": 'W/"tag"'},
        {"if-unmodified-since": BEFORE},
        {"if-match": '"other"', "if-none-match": '"tag"'},
    ],
)
def test_a_request_for_another_content_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(PreconditionFailedError):
        is_unmodified(headers, KNOWN)


def test_a_comma_belongs_to_its_tag() -> None:
    assert names('"x", "a,b"', '"a,b"', weakly=False)
    assert not names('"a,b"', '"b"', weakly=True)


def test_a_part_names_its_place() -> None:
    assert ByteRange(5, 10).content_range(20) == "bytes 5-9/20"


@pytest.mark.parametrize("blanks", [" ", "\t", "W/", '"', '" ', ","])
def test_a_long_list_of_nothing_is_read_at_once(blanks: str) -> None:
    # In quadratic time, this would take minutes.
    assert not names(f"x{blanks * 100_000}x", '"tag"', weakly=True)

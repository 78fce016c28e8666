"""Usage on one pod counts once on all pods, even if reports are lost or repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upload.quotas import usage as module
from services.upload.quotas.usage import MINUTE, REPORT_TTL, Usage, owner_of
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.errors import AllowanceError


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()
HUNDRED = UploadSettings(owner_bytes=100)


def pod(clock: Clock = CLOCK, **limits: int) -> Usage:
    return Usage(UploadSettings(**limits), clock=clock)  # type: ignore[arg-type]


def take(pod: Usage, size: int = 0, owner: str = "ada") -> bool:
    """Return True if an upload is admitted. It sends as many bytes as announced."""
    try:
        with pod.allowed(owner, size) as used:
            used.append(size)
    except AllowanceError:
        return False
    return True


def tell(one: Usage, *others: Usage, times: int = 1) -> None:
    """Deliver all reports of a pod to the others, each `times` times."""
    while (report := one.report()) is not None:
        for other in others:
            for _ in range(times):
                other.apply(report.model_dump_json().encode())
        one.sent()
        if report.under_way:
            break  # Reports continue while uploads are in progress.


def test_what_one_pod_took_another_one_lacks() -> None:
    one, other = pod(owner_bytes=100), pod(owner_bytes=100)
    assert take(one, 80)
    tell(one, other)

    assert not take(other, 30)
    assert take(other, 20)
    assert take(other, 30, owner="bob")


def test_a_report_that_comes_twice_counts_once() -> None:
    one, other = pod(owner_bytes=100), pod(owner_bytes=100)
    assert take(one, 40)
    tell(one, other, times=3)

    assert take(other, 60)


def test_a_pod_does_not_count_its_own_reports() -> None:
    one = pod(owner_bytes=100)
    assert take(one, 40)
    tell(one, one)

    assert take(one, 60)


def test_a_report_is_the_same_until_it_is_sent() -> None:
    one = pod(owner_bytes=100)
    assert take(one, 40)
    first = one.report()
    assert take(one, 5)

    assert one.report() is first
    one.sent()
    second = one.report()
    assert first is not None
    assert second is not None
    assert list(first.used.values()) == [(0, 40)]
    assert list(second.used.values()) == [(0, 5)]
    one.sent()
    assert one.report() is None


def test_what_was_announced_and_did_not_come_is_given_back_everywhere() -> None:
    one, other = pod(owner_bytes=100), pod(owner_bytes=100)
    with one.allowed("ada", 90) as used:
        tell(one, other)
        assert not take(other, 20)
        used.append(10)
    tell(one, other)

    assert not take(other, 91)
    assert take(other, 90)


def test_uploads_under_way_are_counted_on_all_pods() -> None:
    one, other = pod(owner_at_once=2), pod(owner_at_once=2)
    with one.allowed("ada", 0), one.allowed("ada", 0):
        assert not take(one)
        tell(one, other)
        assert not take(other)
        assert take(other, owner="bob")
    tell(one, other)

    assert take(other)


def test_uploads_of_a_pod_that_died_are_under_way_no_more() -> None:
    clock = Clock()
    one, other = pod(clock, owner_at_once=1), pod(clock, owner_at_once=1)
    with one.allowed("ada", 0):
        tell(one, other)
    clock.now += REPORT_TTL - 1
    assert not take(other)
    clock.now += 1
    assert take(other)


def test_a_report_of_an_hour_ago_tells_of_nothing_under_way() -> None:
    clock = Clock()
    one, other = pod(clock, owner_at_once=1), pod(clock, owner_at_once=1)
    with one.allowed("ada", 0):
        report = one.report()
    clock.now += 3600
    assert report is not None
    other.apply(report.model_dump_json().encode())

    assert take(other)


def test_what_was_used_long_ago_has_come_back() -> None:
    clock = Clock()
    one, other = pod(clock, owner_uploads=2), pod(clock, owner_uploads=2)
    assert take(one)
    assert take(one)
    report = one.report()
    assert report is not None
    clock.now += MINUTE / 2
    other.apply(report.model_dump_json().encode())

    assert [take(other), take(other)] == [True, False]


def test_a_pod_whose_clock_is_ahead_gives_nobody_more() -> None:
    ahead, clock = Clock(), Clock()
    ahead.now += 3 * MINUTE
    one, other = pod(ahead, owner_uploads=2), pod(clock, owner_uploads=2)
    for each in (one, other):
        assert take(each)
    tell(one, other)

    assert not take(other)


def test_what_is_no_report_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    one = pod(owner_uploads=1)
    for told in (b"", b"{}", b"\xff", b'{"pod": 1}'):
        one.apply(told)

    assert take(one)
    assert len(caplog.records) == 4


def test_a_report_has_so_many_owners_and_the_next_one_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_REPORTED_OWNERS", 2)
    one, other = pod(owner_uploads=1), pod(owner_uploads=1)
    owners = ["ada", "bob", "eve"]
    assert all(take(one, owner=owner) for owner in owners)
    tell(one, other)

    assert not any(take(other, owner=owner) for owner in owners)


def test_who_is_told_of_is_no_name() -> None:
    named = owner_of(Principal(subject="ada@example.org", tenant="acme"))

    assert named != owner_of(Principal(subject="ada@example.org"))
    assert set(named) <= set("0123456789abcdef")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.booleans()), max_size=60))
def test_each_pod_counts_what_it_took_and_what_it_was_told_of(
    asks: list[tuple[int, int, bool]],
) -> None:
    pods = [Usage(HUNDRED, clock=CLOCK) for _ in range(3)]
    told, untold = 0, [0, 0, 0]
    for number, size, tells in asks:
        allowed = told + untold[number] + size <= 100
        assert take(pods[number], size) == allowed
        untold[number] += size if allowed else 0
        if tells:
            for each in pods:
                tell(each, *pods)
            told, untold = told + sum(untold), [0, 0, 0]

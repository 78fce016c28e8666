"""A gauge disappears when its loop stops, and returns with the loop."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from shared import telemetry
from shared.telemetry import STALE_AFTER_INTERVALS, LoopGauge


class FakeClock:
    """A monotonic clock that only the test advances."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_gauge_disappears_when_its_loop_is_still_and_comes_back_with_it() -> None:
    registry, clock = CollectorRegistry(), FakeClock()
    gauge = LoopGauge("files", "Files.", ["status"], interval=10, registry=registry, clock=clock)
    assert b"files" not in generate_latest(registry)
    gauge.export({("pending",): 3, ("failed",): 1})
    clock.now += 10 * STALE_AFTER_INTERVALS
    assert b'files{status="pending"} 3.0' in generate_latest(registry)
    clock.now += 1
    assert b"files" not in generate_latest(registry)
    gauge.export({("pending",): 2})
    text = generate_latest(registry)
    assert b'files{status="pending"} 2.0' in text
    assert b"failed" not in text


def test_a_gauge_without_labels_does_the_same() -> None:
    registry, clock = CollectorRegistry(), FakeClock()
    gauge = LoopGauge("waiting", "Waiting.", interval=1, registry=registry, clock=clock)
    gauge.set(7)
    assert b"waiting 7.0" in generate_latest(registry)
    gauge.clear()
    assert b"waiting" not in generate_latest(registry)
    gauge.set(0)
    assert b"waiting 0.0" in generate_latest(registry)
    clock.now += STALE_AFTER_INTERVALS + 0.1
    assert b"waiting" not in generate_latest(registry)


def test_every_gauge_is_one_that_disappears_or_is_set_where_its_value_changes() -> None:
    by_event = {
        "waybill_work_in_flight",
        "waybill_subscribers",
        "waybill_isolation_rung",
        "waybill_clock_skew_seconds",
    }
    # The time of the last success reveals that a loop has stopped.
    last_success = {"waybill_loop_last_success_seconds"}
    plain = {each._name for each in vars(telemetry).values() if isinstance(each, Gauge)}
    assert plain == by_event | last_success

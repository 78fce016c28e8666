"""Every end of a background loop is logged, counted and followed by a restart or the pod's end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from shared.background import loops, supervision
from shared.background.loops import MAX_BUGS, Loop
from shared.background.supervision import RunningLoop, Supervisor, after, kill_every
from shared.errors import KafkaUnavailableError
from shared.telemetry import LOOP_FAILURES


class FakeClock:
    """A monotonic clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_loop(name: str = "counting", *, vital: bool = False, restartable: bool = True) -> Loop:
    return Loop(
        name=name,
        late_after=10,
        vital=vital,
        restartable=restartable,
        purpose="Counts.",
        when_late="Counts are old.",
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart loops without delay."""
    monkeypatch.setattr(loops, "FIRST_DELAY", 0.0)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set when the pod would end."""
    event = asyncio.Event()
    monkeypatch.setattr(supervision, "end_pod", event.set)
    return event


def failures(name: str) -> float:
    value: float = LOOP_FAILURES.labels(loop=name)._value.get()
    return value


class Runs:
    """A loop that ends in a given way in its first runs, and then runs forever."""

    def __init__(self, *ends: Callable[[RunningLoop], Awaitable[None]]) -> None:
        self._ends = list(ends)
        self.begun = 0
        self.back = asyncio.Event()

    async def __call__(self, loop: RunningLoop) -> None:
        self.begun += 1
        if self._ends:
            await self._ends.pop(0)(loop)
            return
        loop.succeeded()
        self.back.set()
        await asyncio.get_running_loop().create_future()


async def returns(_: RunningLoop) -> None:
    return


async def raises(_: RunningLoop) -> None:
    raise IndexError("deque index out of range")


async def outage(_: RunningLoop) -> None:
    raise KafkaUnavailableError


async def cancelled_by_a_library(_: RunningLoop) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def cancels_itself(loop: RunningLoop) -> None:
    assert loop.body is not None
    loop.body.cancel()
    await asyncio.sleep(60)


class PanicException(BaseException):
    """The kind of exception that a panic of a Rust extension raises."""


async def panics(_: RunningLoop) -> None:
    raise PanicException("index out of bounds")


WAYS = {
    "it returns": (returns, "LoopReturnedError"),
    "it raises": (raises, "IndexError"),
    "a part is away": (outage, "KafkaUnavailableError"),
    "a library's CancelledError comes out of it": (cancelled_by_a_library, "LoopCancelledError"),
    "somebody cancels it": (cancels_itself, "LoopCancelledError"),
    "an extension panics": (panics, "PanicException"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_loop_that_ends_is_logged_counted_and_started_again(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    end, error = WAYS[way]
    run = Runs(end)
    before = failures("counting")
    async with asyncio.timeout(10), Supervisor().running((a_loop(), run)):
        await run.back.wait()
    assert run.begun == 2
    assert failures("counting") == before + 1
    logged = [each for each in caplog.records if "the loop counting" in each.getMessage()]
    assert len(logged) == 1
    # An outage needs no traceback: the message is sufficient.
    text = logged[0].exc_text or logged[0].getMessage()
    assert error in (text if logged[0].exc_info is None else repr(logged[0].exc_info[1]))
    assert (logged[0].exc_info is None) == (end is outage)


async def test_the_loop_may_be_cancelled_again_and_again() -> None:
    run = Runs()
    supervisor = Supervisor()
    async with asyncio.timeout(10), supervisor.running((a_loop(), run)):
        for _ in range(5):
            await run.back.wait()
            run.back.clear()
            supervisor.kill("counting")
        await run.back.wait()
    assert run.begun == 6


async def test_the_end_of_the_block_ends_the_loop_and_counts_as_no_failure() -> None:
    run = Runs()
    before = failures("counting")
    supervisor = Supervisor()
    async with asyncio.timeout(10), supervisor.running((a_loop(), run)):
        await run.back.wait()
        body = supervisor._running["counting"].body
    assert body is not None
    assert body.cancelled()
    assert failures("counting") == before
    assert supervisor.names == []


async def test_a_vital_loop_with_one_bug_after_another_ends_the_pod(ended: asyncio.Event) -> None:
    run = Runs(*[raises] * 50)
    async with asyncio.timeout(10), Supervisor().running((a_loop(vital=True), run)):
        await ended.wait()
    assert run.begun == MAX_BUGS


async def test_a_vital_loop_outlives_any_number_of_outages(ended: asyncio.Event) -> None:
    run = Runs(*[outage] * 50)
    async with asyncio.timeout(10), Supervisor().running((a_loop(vital=True), run)):
        await run.back.wait()
    assert not ended.is_set()


async def test_a_loop_that_cannot_be_restarted_ends_the_pod(ended: asyncio.Event) -> None:
    run = Runs(raises)
    loop = a_loop(vital=True, restartable=False)
    async with asyncio.timeout(10), Supervisor().running((loop, run)):
        await ended.wait()
    assert run.begun == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_a_loop_that_would_end_the_process_ends_it_in_order(
    error: BaseException, ended: asyncio.Event
) -> None:
    async def run(_: RunningLoop) -> None:
        raise error

    async with asyncio.timeout(10), Supervisor().running((a_loop(), run)):
        await ended.wait()


async def hangs(_: RunningLoop) -> None:
    await asyncio.get_running_loop().create_future()


class FastClock:
    """A monotonic clock that advances by half a check interval per reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += supervision.LOOK_EVERY / 2
        return self.now


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> FastClock:
    monkeypatch.setattr(supervision, "LOOK_EVERY", 0.001)
    monkeypatch.setattr(loops, "HUNG_FACTOR", 0.01)
    return FastClock()


async def test_a_loop_without_a_sign_of_life_is_cancelled_and_started_again(
    caplog: pytest.LogCaptureFixture, fast: FastClock
) -> None:
    run = Runs(hangs)
    async with asyncio.timeout(10), Supervisor(clock=fast).running((a_loop(), run)):
        await run.back.wait()
    assert run.begun == 2
    assert any(
        isinstance(each.exc_info[1], supervision.LoopHungError)
        for each in caplog.records
        if each.exc_info
    )


async def test_a_vital_loop_that_ignores_its_cancellation_ends_the_pod(
    ended: asyncio.Event, monkeypatch: pytest.MonkeyPatch, fast: FastClock
) -> None:
    monkeypatch.setattr(supervision, "STOP_WITHIN", 0.01)
    released = asyncio.Event()

    async def ignores(_: RunningLoop) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(10), Supervisor(clock=fast).running((a_loop(vital=True), ignores)):
        await ended.wait()
        released.set()


async def test_a_process_that_was_frozen_itself_takes_no_loop_for_hung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "LOOK_EVERY", 0.001)
    clock = FakeClock()
    run = Runs()
    async with asyncio.timeout(10), Supervisor(clock=clock).running((a_loop(), run)):
        await run.back.wait()
        clock.now += 10 * a_loop().hung_after
        await asyncio.sleep(0.05)
        assert run.begun == 1


async def test_a_late_vital_loop_is_trouble_and_a_late_other_one_is_a_note() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock=clock)
    vital, other = Runs(), Runs()
    async with (
        asyncio.timeout(10),
        supervisor.running((a_loop("fan-out", vital=True), vital), (a_loop("auditor"), other)),
    ):
        await vital.back.wait()
        await other.back.wait()
        assert supervisor.unavailable_reason is None
        assert supervisor.degraded == []
        clock.now += 25
        assert supervisor.unavailable_reason is not None
        assert "fan-out is late: its last success was 25 s ago" in supervisor.unavailable_reason
        assert [each.split(":")[0] for each in supervisor.degraded] == ["the loop auditor is late"]
        # A loop that waits for a dependency whose outage the pod survives keeps the pod ready.
        fan_out = supervisor._running["fan-out"]
        fan_out.waits_for("MongoDB")
        assert supervisor.unavailable_reason is None
        assert "it waits for MongoDB" in supervisor.degraded[0]
        fan_out.succeeded()
        assert len(supervisor.degraded) == 1


async def test_a_loop_can_be_killed_again_and_again_from_outside(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    run = Runs()
    supervisor = Supervisor(kill="counting:0.01,other:5")
    async with asyncio.timeout(10), supervisor.running((a_loop(), run)):
        while run.begun < 4:
            await asyncio.sleep(0.01)


def test_what_is_to_be_killed_is_read_from_a_text() -> None:
    assert kill_every("") == {}
    assert kill_every("monitor:5, fan-out:0.5") == {"monitor": 5, "fan-out": 0.5}
    with pytest.raises(ValueError, match="could not convert"):
        kill_every("monitor")


async def test_two_loops_of_one_name_are_refused() -> None:
    supervisor, run = Supervisor(), Runs()
    with pytest.raises(ValueError, match="is already running"):
        async with supervisor.running((a_loop(), run), (a_loop(), Runs())):
            pass
    assert supervisor.names == []


async def test_a_loop_that_waits_for_the_start_is_neither_hung_nor_trouble() -> None:
    start, run = asyncio.Event(), Runs()
    clock = FakeClock()
    supervisor = Supervisor(clock=clock)
    async with asyncio.timeout(10), supervisor.running((a_loop(vital=True), after(start, run))):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.now += 25
        assert supervisor.unavailable_reason is None
        assert "it waits for the start of the pod" in supervisor.degraded[0]
        assert not run.begun
        start.set()
        await run.back.wait()

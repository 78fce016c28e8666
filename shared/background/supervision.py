"""The supervisor that runs the background loops of a service.

A failed loop is logged, counted and restarted with exponential backoff. Every end of a loop that
the supervisor did not request is a failure: an exception, a `CancelledError` from a library, or a
return. A loop without a sign of life is cancelled and restarted.

The pod shuts down cleanly, by sending SIGTERM to itself, if a restart cannot help:

- a loop that is not `restartable` has failed, or
- a vital loop has failed `MAX_BUGS` times in a row with errors that are not outages, or
- a vital loop does not end within `STOP_WITHIN` seconds after it is cancelled, or
- a loop raised `SystemExit` or `KeyboardInterrupt`.

The orchestrator (Kubernetes, Compose, `waybill up`) then starts a new pod.
"""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from shared.background.loops import Loop, LoopHealth, Verdict, backoff
from shared.errors import UnavailableError
from shared.kafka.connection import KAFKA_OUTAGES
from shared.telemetry import LOOP_FAILURES, LOOP_SUCCESS

log = logging.getLogger(__name__)

OUTAGES = (UnavailableError, *KAFKA_OUTAGES)
"""Errors that mean that a dependency is unavailable. They are logged without a traceback."""

STOP_WITHIN = 10.0
"""Seconds for a cancelled loop to end. Meanwhile it closes its connections, which takes up to
`CLOSES_WITHIN` seconds each."""

LOOK_EVERY = 1.0
"""Seconds between two checks for hung loops. If much more time passed between two checks, this
process was frozen, and the time does not count."""

Clock = Callable[[], float]


class LoopReturnedError(Exception):
    """The loop returned, although it must run for as long as the pod."""


class LoopCancelledError(Exception):
    """The loop was cancelled from within, without a request to stop."""


class LoopHungError(Exception):
    """The loop gave no sign of life and was cancelled."""


def end_pod() -> None:
    """Shut down this process cleanly, like a SIGTERM from outside."""
    os.kill(os.getpid(), signal.SIGTERM)


class RunningLoop:
    """The handle with which a loop's code reports its health."""

    def __init__(self, health: LoopHealth, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self.body: asyncio.Task[BaseException | None] | None = None
        """The task of the current run. Cancelling it makes the loop fail once."""

    def succeeded(self) -> None:
        """Report a success."""
        self._health.succeeded(self._clock())
        LOOP_SUCCESS.labels(loop=self._health.loop.name).set_to_current_time()

    def alive(self) -> None:
        """Report a sign of life without a success. The loop can still become late."""
        self._health.alive(self._clock())

    def waits_for(self, part: str) -> None:
        """Report that the loop is alive and waits for a dependency whose outage the pod survives.

        If the loop becomes late, `/health/ready` still returns 200 and lists it as degraded.
        """
        self._health.waits(part, self._clock())


Run = Callable[[RunningLoop], Awaitable[None]]
"""The function of a loop, which runs until it is cancelled."""


class Supervisor:
    """Runs the background loops of one application."""

    def __init__(self, *, clock: Clock = time.monotonic, kill: str = "") -> None:
        """Create a supervisor without loops.

        Args:
            clock: monotonic seconds.
            kill: comma-separated `name:seconds`; each named loop is cancelled at that interval.
        """
        self._clock = clock
        self._kill = kill_every(kill)
        self._health: dict[str, LoopHealth] = {}
        self._running: dict[str, RunningLoop] = {}

    @asynccontextmanager
    async def running(self, *loops: tuple[Loop, Run]) -> AsyncIterator[None]:
        """Run loops in the background of the `with` block, and stop all of them at its end.

        Args:
            loops: declarations with their functions, which are called again after each failure.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            for loop, run in loops:
                tasks += self._start(loop, run)
            yield
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for loop, _ in loops:
                self._health.pop(loop.name, None)
                self._running.pop(loop.name, None)

    def _start(self, loop: Loop, run: Run) -> list[asyncio.Task[None]]:
        if loop.name in self._health:
            raise ValueError(f"the loop {loop.name} is already running")
        health = self._health[loop.name] = LoopHealth(loop, self._clock())
        running = self._running[loop.name] = RunningLoop(health, self._clock)
        tasks = [asyncio.create_task(self._supervise(running, health, run), name=loop.name)]
        if (seconds := self._kill.get(loop.name)) is not None:
            tasks.append(asyncio.create_task(_keep_killing(running, seconds)))
        return tasks

    @property
    def unavailable_reason(self) -> str | None:
        """Return a description of the vital loops that are late; None while all are on time."""
        now = self._clock()
        late = [each.describe(now) for each in self._late(now) if _makes_red(each, now)]
        return "; ".join(late) or None

    @property
    def degraded(self) -> list[str]:
        """Return descriptions of the late loops that the pod can do without for now."""
        now = self._clock()
        return [each.describe(now) for each in self._late(now) if not _makes_red(each, now)]

    def is_late(self, loop: Loop) -> bool:
        """Return True if a loop is late or not running."""
        health = self._health.get(loop.name)
        return health is None or health.is_late(self._clock())

    def kill(self, name: str) -> None:
        """Cancel the current run of a loop, like a stray `CancelledError` of a library."""
        body = self._running[name].body
        if body is not None:
            body.cancel()

    @property
    def names(self) -> list[str]:
        """Return the names of the running loops."""
        return list(self._health)

    def _late(self, now: float) -> list[LoopHealth]:
        return [each for each in self._health.values() if each.is_late(now)]

    async def _supervise(self, running: RunningLoop, health: LoopHealth, run: Run) -> None:
        """Run and restart the loop until this is cancelled or the pod ends."""
        name = health.loop.name
        while True:
            health.alive(self._clock())
            error = await self._run_once(running, health, run)
            LOOP_FAILURES.labels(loop=name).inc()
            verdict = health.failed(type(error).__name__, is_outage=isinstance(error, OUTAGES))
            if isinstance(error, SystemExit | KeyboardInterrupt | _StuckError):
                verdict = Verdict.END_POD
            if verdict is Verdict.END_POD:
                log.critical("the loop %s cannot be restarted: the pod ends", name, exc_info=error)
                end_pod()
                return
            delay = backoff(health.failures, random.random())  # noqa: S311 - jitter is not secret
            if isinstance(error, OUTAGES):
                log.warning("the loop %s will restart in %.1f s: %r", name, delay, error)
            else:
                log.error("the loop %s failed; restart in %.1f s", name, delay, exc_info=error)
            await asyncio.sleep(delay)

    async def _run_once(self, running: RunningLoop, health: LoopHealth, run: Run) -> BaseException:
        """Run the loop until it ends by itself, and return the reason."""
        # With a task of its own, its cancellation cannot be confused with ours.
        body = running.body = asyncio.create_task(_contained(run, running))
        try:
            hung = not await self._ends(body, health)
        except asyncio.CancelledError:
            await _end(body, health)
            raise
        if hung:
            stuck = not await _end(body, health)
            silence = self._clock() - health.last_sign
            if stuck and health.loop.vital:
                return _StuckError(f"still running after cancellation; silent for {silence:.0f} s")
            return LoopHungError(f"no sign of life for {silence:.0f} s")
        if body.cancelled():
            return LoopCancelledError()
        return body.result() or LoopReturnedError()

    async def _ends(self, body: asyncio.Task[BaseException | None], health: LoopHealth) -> bool:
        """Wait until the loop ends (return True) or counts as hung (return False)."""
        looked_at = self._clock()
        while True:
            await asyncio.wait({body}, timeout=LOOK_EVERY)
            if body.done():
                return True
            before, looked_at = looked_at, self._clock()
            health.excuse(max(0.0, looked_at - before - 2 * LOOK_EVERY))
            if looked_at > health.hangs_at():
                return False


class _StuckError(Exception):
    """The loop did not end after it was cancelled."""


def _makes_red(health: LoopHealth, now: float) -> bool:
    return health.loop.vital and not health.is_waiting(now)


async def _contained(run: Run, running: RunningLoop) -> BaseException | None:
    """Run the loop and return its error.

    In a task, `SystemExit` and `KeyboardInterrupt` would stop the event loop without a clean
    shutdown. A panic of a Rust extension is a `BaseException`, too.
    """
    try:
        await run(running)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        return error
    return None


async def _end(body: asyncio.Task[BaseException | None], health: LoopHealth) -> bool:
    """Cancel a run and wait for its end; return False if it does not end in time."""
    body.cancel()
    await asyncio.wait({body}, timeout=STOP_WITHIN)
    if not body.done():
        log.error("the loop %s did not end after it was cancelled", health.loop.name)
        return False
    if not body.cancelled() and (error := body.result()) is not None:
        log.warning("the loop %s failed during cancellation: %r", health.loop.name, error)
    return True


def after(start: asyncio.Event, run: Run) -> Run:
    """Wrap a loop so that it starts once `start` is set, and reports that it waits until then."""

    async def run_after(loop: RunningLoop) -> None:
        while not start.is_set():
            loop.waits_for("the start of the pod")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await start.wait()
        await run(loop)

    return run_after


def kill_every(text: str) -> dict[str, float]:
    """Parse comma-separated `name:seconds`, the loops to cancel periodically.

    Raises:
        ValueError: the text has another form.
    """
    pairs = (each.partition(":") for each in text.split(",") if each.strip())
    return {name.strip(): float(seconds) for name, _, seconds in pairs}


async def _keep_killing(running: RunningLoop, seconds: float) -> None:
    """Cancel the current run of a loop periodically, for tests."""
    while True:
        await asyncio.sleep(seconds)
        if running.body is not None:
            running.body.cancel()

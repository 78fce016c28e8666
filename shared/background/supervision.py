"""The supervisor: the one way in which a service runs its background loops.

A loop that fails is logged, counted and started again, after a delay that grows. Every end of a
loop is a failure unless the supervisor asked for it: an exception, a `CancelledError` that came out
of a library, a return. A loop that shows no sign of life is cancelled and started again.

The pod ends, in order and by SIGTERM to itself, where no restart can help:

- a loop that is not `restartable` has failed, or
- a vital loop has failed `MAX_BUGS` times in a row by errors that are no outage, or
- a vital loop does not end within `STOP_WITHIN` seconds when it is cancelled, or
- a loop raised `SystemExit` or `KeyboardInterrupt`.

Whatever runs the pods (Kubernetes, compose, `waybill up`) starts another one.
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
"""Errors that say that a part the loop leans on does not answer. One line of log tells enough."""

STOP_WITHIN = 10.0
"""Seconds for a loop to end when it is cancelled: it closes its connections meanwhile, which have
`CLOSES_WITHIN` seconds each."""

LOOK_EVERY = 1.0
"""Seconds between two looks whether a loop hangs. Where much more passed between two looks, this
process was frozen itself, and that time counts for no loop."""

Clock = Callable[[], float]


class LoopReturnedError(Exception):
    """The loop returned although it should run for as long as the pod lives."""


class LoopCancelledError(Exception):
    """The loop was cancelled from within, and nobody had asked it to end."""


class LoopHungError(Exception):
    """The loop gave no sign of life and was cancelled."""


def end_pod() -> None:
    """Have this process end in order, as if it had been told to from outside."""
    os.kill(os.getpid(), signal.SIGTERM)


class RunningLoop:
    """A loop as its own code sees it: where it says how it is doing."""

    def __init__(self, health: LoopHealth, clock: Clock) -> None:
        self._health = health
        self._clock = clock
        self.body: asyncio.Task[BaseException | None] | None = None
        """The present run; whoever cancels it kills the loop once."""

    def succeeded(self) -> None:
        """Say that the loop has just done what it is for."""
        self._health.succeeded(self._clock())
        LOOP_SUCCESS.labels(loop=self._health.loop.name).set_to_current_time()

    def alive(self) -> None:
        """Say that the loop is not hung, while it does not succeed: it gets late all the same."""
        self._health.alive(self._clock())

    def waits_for(self, part: str) -> None:
        """Say that the loop lives, and waits for a part whose outage the pod outlives.

        The loop may get late by this, but `/health/ready` stays green and names it as degraded.
        """
        self._health.waits(part, self._clock())


Run = Callable[[RunningLoop], Awaitable[None]]
"""Runs until it is cancelled."""


class Supervisor:
    """Runs the background loops of one application."""

    def __init__(self, *, clock: Clock = time.monotonic, kill: str = "") -> None:
        """Args:
        clock: monotonic seconds.
        kill: `name:seconds`, comma-separated; each of these loops is cancelled that often.
        """
        self._clock = clock
        self._kill = kill_every(kill)
        self._health: dict[str, LoopHealth] = {}
        self._running: dict[str, RunningLoop] = {}

    @asynccontextmanager
    async def running(self, *loops: tuple[Loop, Run]) -> AsyncIterator[None]:
        """Run loops in the background of the `with` block, at whose end all of them end together.

        Args:
            loops: each with the function that runs it, which is called again after each failure.
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
            raise ValueError(f"the loop {loop.name} runs already")
        health = self._health[loop.name] = LoopHealth(loop, self._clock())
        running = self._running[loop.name] = RunningLoop(health, self._clock)
        tasks = [asyncio.create_task(self._supervise(running, health, run), name=loop.name)]
        if (seconds := self._kill.get(loop.name)) is not None:
            tasks.append(asyncio.create_task(_keep_killing(running, seconds)))
        return tasks

    @property
    def trouble(self) -> str | None:
        """The vital loops that are late; None while all are on time."""
        now = self._clock()
        late = [each.describe(now) for each in self._late(now) if _makes_red(each, now)]
        return "; ".join(late) or None

    @property
    def degraded(self) -> list[str]:
        """The loops that are late and that the pod can do without for now."""
        now = self._clock()
        return [each.describe(now) for each in self._late(now) if not _makes_red(each, now)]

    def is_late(self, loop: Loop) -> bool:
        """Whether a loop is late, or does not run at all."""
        health = self._health.get(loop.name)
        return health is None or health.is_late(self._clock())

    def kill(self, name: str) -> None:
        """Cancel the present run of a loop, as a library's stray `CancelledError` does."""
        body = self._running[name].body
        if body is not None:
            body.cancel()

    @property
    def names(self) -> list[str]:
        """The loops that run."""
        return list(self._health)

    def _late(self, now: float) -> list[LoopHealth]:
        return [each for each in self._health.values() if each.is_late(now)]

    async def _supervise(self, running: RunningLoop, health: LoopHealth, run: Run) -> None:
        """Run the loop again and again until cancelled, or until the pod ends."""
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
            delay = backoff(health.failures, random.random())  # noqa: S311 - jitter is no secret
            if isinstance(error, OUTAGES):
                log.warning("the loop %s waits, restart in %.1f s: %r", name, delay, error)
            else:
                log.error("the loop %s failed, restart in %.1f s", name, delay, exc_info=error)
            await asyncio.sleep(delay)

    async def _run_once(self, running: RunningLoop, health: LoopHealth, run: Run) -> BaseException:
        """Run the loop until it ends by itself, and return why it did."""
        # A task of its own: so its cancellation and ours cannot be taken for each other.
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
                return _StuckError(f"no end after it was cancelled; silent for {silence:.0f} s")
            return LoopHungError(f"no sign of life for {silence:.0f} s")
        if body.cancelled():
            return LoopCancelledError()
        return body.result() or LoopReturnedError()

    async def _ends(self, body: asyncio.Task[BaseException | None], health: LoopHealth) -> bool:
        """Return True when the loop ends, and False when it counts as hung."""
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
    """The loop does not end when it is cancelled."""


def _makes_red(health: LoopHealth, now: float) -> bool:
    return health.loop.vital and not health.is_waiting(now)


async def _contained(run: Run, running: RunningLoop) -> BaseException | None:
    """Run the loop and return its error.

    `SystemExit` and `KeyboardInterrupt` in a task would break out of the event loop and leave the
    process without any order; a panic of a Rust extension is a `BaseException`, too.
    """
    try:
        await run(running)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        return error
    return None


async def _end(body: asyncio.Task[BaseException | None], health: LoopHealth) -> bool:
    """Cancel a run and wait for its end; False if it does not end in time."""
    body.cancel()
    await asyncio.wait({body}, timeout=STOP_WITHIN)
    if not body.done():
        log.error("the loop %s does not end when it is cancelled", health.loop.name)
        return False
    if not body.cancelled() and (error := body.result()) is not None:
        log.warning("the loop %s failed while it was ending: %r", health.loop.name, error)
    return True


def after(start: asyncio.Event, run: Run) -> Run:
    """A loop that begins once `start` is set, and says meanwhile that it waits for that."""

    async def run_after(loop: RunningLoop) -> None:
        while not start.is_set():
            loop.waits_for("the start of the pod")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await start.wait()
        await run(loop)

    return run_after


def kill_every(text: str) -> dict[str, float]:
    """Read `name:seconds`, comma-separated: which loops are to be killed, and how often.

    Raises:
        ValueError: the text is not of this form.
    """
    pairs = (each.partition(":") for each in text.split(",") if each.strip())
    return {name.strip(): float(seconds) for name, _, seconds in pairs}


async def _keep_killing(running: RunningLoop, seconds: float) -> None:
    """Cancel the present run of a loop again and again, for trials."""
    while True:
        await asyncio.sleep(seconds)
        if running.body is not None:
            running.body.cancel()

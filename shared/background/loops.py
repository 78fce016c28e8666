"""Background loops: what a service declares about each, and the pure rules by which it is judged.

A loop is a coroutine that a service runs for as long as it lives. `supervision.py` runs it. Nothing
here knows a clock, asyncio or a log: the time is an argument.
"""

from dataclasses import dataclass
from enum import Enum

FIRST_DELAY, LONGEST_DELAY = 0.5, 5.0
"""Seconds before a loop that failed is started again, doubled after each failure in a row. The
longest is short: after an outage users wait for it, and one attempt costs a connection."""

HUNG_FACTOR = 3.0
"""A loop that shows no sign of life for so many times its lateness is cancelled and started again:
some await in it has no deadline, or its library waits for an answer that was lost."""

MAX_BUGS = 5
"""Failures in a row, none of them an outage, after which a vital loop counts as one that cannot be
restarted. With the delays that is about ten seconds."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A background loop as its service declares it."""

    name: str
    """Unique over all services; stands in logs, metrics and `/health/ready`."""
    late_after: float
    """Seconds without a success after which the loop is late."""
    vital: bool
    """Whether the pod is useless without it: `/health/ready` is 503 while it is late, and the pod
    ends when it cannot be restarted."""
    purpose: str
    """What the loop does, for the documentation."""
    when_late: str
    """What a user sees while it is late."""
    restartable: bool = True
    """False if another run of it could not go on where the failed one was: the pod ends instead."""

    @property
    def hung_after(self) -> float:
        """Seconds without a sign of life after which the loop is cancelled and restarted."""
        return self.late_after * HUNG_FACTOR


class Verdict(Enum):
    """What follows from a failure."""

    RESTART = "restart"
    END_POD = "end_pod"


class LoopHealth:
    """How one loop is doing. All times are seconds of one clock that only goes forward."""

    def __init__(self, loop: Loop, now: float) -> None:
        self.loop = loop
        self.last_success = now
        """The start counts as one: a loop has `late_after` seconds for its first success."""
        self.last_sign = now
        """When the loop last showed that it lives: a success, a restart, or a wait for a part."""
        self.waits_for: str | None = None
        """The part that is away, if the loop says that it waits for one the pod outlives."""
        self.waited_at = now
        """When it said so last."""
        self.failures = 0
        """In a row, since the last success."""
        self.bugs = 0
        """Those of them that no outage explains."""
        self.last_failure: str | None = None
        """Name of the last error's class; its message may carry addresses."""

    def succeeded(self, now: float) -> None:
        """Note a success."""
        self.last_success = self.last_sign = now
        self.waits_for = self.last_failure = None
        self.failures = self.bugs = 0

    def waits(self, part: str, now: float) -> None:
        """Note that the loop lives and waits for a part whose outage the pod outlives."""
        self.waits_for, self.waited_at, self.last_sign = part, now, now

    def alive(self, now: float) -> None:
        """Note a sign of life: the loop is not hung, whether or not it succeeds."""
        self.last_sign = now

    def excuse(self, seconds: float) -> None:
        """Note that nothing in this process could run for so long."""
        self.last_sign += seconds

    def failed(self, error: str, *, is_outage: bool) -> Verdict:
        """Note a failure and decide what follows from it.

        Args:
            error: the name of the error's class.
            is_outage: whether a part that the loop leans on did not answer. Another process would
                get no answer either, so an outage never ends the pod.
        """
        self.last_failure, self.waits_for = error, None
        self.failures += 1
        self.bugs = 0 if is_outage else self.bugs + 1
        if not self.loop.restartable:
            return Verdict.END_POD
        return Verdict.END_POD if self.loop.vital and self.bugs >= MAX_BUGS else Verdict.RESTART

    def silence(self, now: float) -> float:
        """Seconds since the last success."""
        return max(0.0, now - self.last_success)

    def is_late(self, now: float) -> bool:
        """Whether the loop is late."""
        return self.silence(now) > self.loop.late_after

    def is_waiting(self, now: float) -> bool:
        """Whether the loop waits for a part, and has said so lately: it may wait no longer."""
        return self.waits_for is not None and now - self.waited_at <= self.loop.hung_after

    def hangs_at(self) -> float:
        """When the loop counts as hung, if it gives no sign of life until then."""
        return self.last_sign + self.loop.hung_after

    def describe(self, now: float) -> str:
        """Say in a sentence how late the loop is."""
        text = (
            f"the loop {self.loop.name} is late: its last success was {self.silence(now):.0f} s"
            f" ago, expected within {self.loop.late_after:g} s"
        )
        if self.is_waiting(now):
            return f"{text}; it waits for {self.waits_for}"
        return f"{text}; {self.last_failure}" if self.last_failure is not None else text


def backoff(failures: int, chance: float) -> float:
    """Return the seconds before a restart: exponential, with jitter.

    Args:
        failures: in a row, at least 1.
        chance: between 0 and 1; at least half of the delay is waited.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance / 2)

"""Background loops: their declaration, and the pure rules that assess their health.

A loop is a coroutine that runs for as long as its service; `supervision.py` runs it. Nothing in
this module uses a clock, asyncio or a log: the time is an argument.
"""

from dataclasses import dataclass
from enum import Enum

FIRST_DELAY, LONGEST_DELAY = 0.5, 5.0
"""Seconds before a failed loop is restarted, doubled after each consecutive failure. The maximum is
short, because users wait for the loop after an outage and an attempt costs only a connection."""

HUNG_FACTOR = 3.0
"""Multiple of `late_after` without a sign of life after which a loop is cancelled and restarted:
some await has no deadline, or a library waits for a lost response."""

MAX_BUGS = 5
"""Consecutive failures, none of them an outage, after which the pod of a vital loop ends. With the
delays this takes about ten seconds."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The declaration of a background loop."""

    name: str
    """Unique among all services; used in logs, metrics and `/health/ready`."""
    late_after: float
    """Seconds without a success after which the loop is late."""
    vital: bool
    """True if the pod is useless without the loop. `/health/ready` returns 503 while it is late,
    and the pod ends if it cannot be restarted."""
    purpose: str
    """Description of the loop for the documentation."""
    when_late: str
    """The effect on users while the loop is late."""
    restartable: bool = True
    """False if a new run could not resume where the failed one stopped: the pod ends instead."""

    @property
    def hung_after(self) -> float:
        """Return the seconds without a sign of life after which the loop is restarted."""
        return self.late_after * HUNG_FACTOR


class Verdict(Enum):
    """The reaction to a failure."""

    RESTART = "restart"
    END_POD = "end_pod"


class LoopHealth:
    """The health of one loop. All times are seconds of one monotonic clock."""

    def __init__(self, loop: Loop, now: float) -> None:
        self.loop = loop
        self.last_success = now
        """Time of the last success. The start counts as one: a loop has `late_after` seconds for
        its first success."""
        self.last_sign = now
        """Time of the last sign of life: a success, a restart, or a wait for a dependency."""
        self.waits_for: str | None = None
        """The unavailable dependency that the loop waits for, if the pod survives its outage."""
        self.waited_at = now
        """Time at which the loop last reported that wait."""
        self.failures = 0
        """Consecutive failures since the last success."""
        self.bugs = 0
        """Consecutive failures that were not outages."""
        self.last_failure: str | None = None
        """Class name of the last error; its message may contain addresses."""

    def succeeded(self, now: float) -> None:
        """Record a success."""
        self.last_success = self.last_sign = now
        self.waits_for = self.last_failure = None
        self.failures = self.bugs = 0

    def waits(self, part: str, now: float) -> None:
        """Record that the loop waits for a dependency whose outage the pod survives."""
        self.waits_for, self.waited_at, self.last_sign = part, now, now

    def alive(self, now: float) -> None:
        """Record a sign of life: the loop is not hung, even if it does not succeed."""
        self.last_sign = now

    def excuse(self, seconds: float) -> None:
        """Add time during which nothing in this process could run."""
        self.last_sign += seconds

    def failed(self, error: str, *, is_outage: bool) -> Verdict:
        """Record a failure and return the reaction.

        Args:
            error: class name of the error.
            is_outage: True if a dependency was unavailable. It would be unavailable to a new
                process too, so an outage never ends the pod.
        """
        self.last_failure, self.waits_for = error, None
        self.failures += 1
        self.bugs = 0 if is_outage else self.bugs + 1
        if not self.loop.restartable:
            return Verdict.END_POD
        return Verdict.END_POD if self.loop.vital and self.bugs >= MAX_BUGS else Verdict.RESTART

    def silence(self, now: float) -> float:
        """Return the seconds since the last success."""
        return max(0.0, now - self.last_success)

    def is_late(self, now: float) -> bool:
        """Return True if the loop is late."""
        return self.silence(now) > self.loop.late_after

    def is_waiting(self, now: float) -> bool:
        """Return True if the loop has recently reported that it waits for a dependency."""
        return self.waits_for is not None and now - self.waited_at <= self.loop.hung_after

    def hangs_at(self) -> float:
        """Return the time at which the loop counts as hung without a further sign of life."""
        return self.last_sign + self.loop.hung_after

    def describe(self, now: float) -> str:
        """Return a sentence that describes the delay and its cause."""
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
        failures: consecutive failures, at least 1.
        chance: random number between 0 and 1. The delay is at least half of its maximum.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance / 2)

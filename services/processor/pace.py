"""Running means of how long steps of the processing take on this pod."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WEIGHT = 0.05
"""Weight of a new observation: the mean covers about the last twenty."""

SHORTEST = 1e-6
"""Seconds. Shorter observations are rounded up to this."""


class RunningMean:
    """A running arithmetic mean of durations, in seconds."""

    def __init__(self, first: float) -> None:
        self.seconds = first

    def add(self, seconds: float) -> None:
        """Add an observation."""
        self.seconds += WEIGHT * (seconds - self.seconds)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Observe the duration of a block that ends without an error."""
        started = time.monotonic()
        yield
        self.add(time.monotonic() - started)


class RunningGeometricMean(RunningMean):
    """A running geometric mean: one ten-minute file does not outweigh a thousand short ones."""

    def add(self, seconds: float) -> None:
        """Add an observation."""
        self.seconds *= (max(seconds, SHORTEST) / self.seconds) ** WEIGHT


@dataclass(kw_only=True)
class Pace:
    """Durations of the work on a file and of its overhead, with typical initial values."""

    work: RunningMean = field(default_factory=lambda: RunningGeometricMean(1.0))
    """Seconds that a worker needs."""
    commit: RunningMean = field(default_factory=lambda: RunningMean(0.002))
    """Seconds until the start is committed."""
    acknowledgement: RunningMean = field(default_factory=lambda: RunningMean(0.003))
    """Seconds until Kafka acknowledges the outcome."""

    @property
    def overhead(self) -> float:
        """Seconds around the work during which a worker idles unless other work has started."""
        return self.commit.seconds + self.acknowledgement.seconds

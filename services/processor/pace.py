"""How long things take on this pod, as running means."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WEIGHT = 0.05
"""Of one more observation: the mean follows the last twenty or so."""

SHORTEST = 1e-6
"""Seconds; nothing that is measured here is shorter."""


class RunningMean:
    """An arithmetic mean of durations that follows the present, in seconds."""

    def __init__(self, first: float) -> None:
        self.seconds = first

    def add(self, seconds: float) -> None:
        """One more observation."""
        self.seconds += WEIGHT * (seconds - self.seconds)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Observe how long a block takes, if it ends well."""
        started = time.monotonic()
        yield
        self.add(time.monotonic() - started)


class RunningGeometricMean(RunningMean):
    """A geometric one: a file of ten minutes says nothing of the thousand short ones beside it."""

    def add(self, seconds: float) -> None:
        """One more observation."""
        self.seconds *= (max(seconds, SHORTEST) / self.seconds) ** WEIGHT


@dataclass(kw_only=True)
class Pace:
    """How long the work on a file takes, and what is around it; starts with what is usual."""

    work: RunningMean = field(default_factory=lambda: RunningGeometricMean(1.0))
    """What a worker needs for it."""
    commit: RunningMean = field(default_factory=lambda: RunningMean(0.002))
    """Until Kafka knows that it is begun."""
    acknowledgement: RunningMean = field(default_factory=lambda: RunningMean(0.003))
    """Until Kafka knows what came of it."""

    @property
    def overhead(self) -> float:
        """Seconds around the work, in which a worker waits unless other work is begun meanwhile."""
        return self.commit.seconds + self.acknowledgement.seconds

"""How long things take on this pod, as running means."""

import math

WEIGHT = 0.05
"""Of one more observation: the mean follows the last twenty or so."""

SHORTEST = 1e-6
"""Seconds; nothing that is measured here is shorter."""


class RunningMean:
    """A geometric mean of durations that follows the present, in seconds.

    Geometric, because one file of ten minutes says nothing of the thousand short ones beside it.
    """

    def __init__(self, first: float) -> None:
        self._log = math.log(first)

    def add(self, seconds: float) -> None:
        """One more observation."""
        self._log += WEIGHT * (math.log(max(seconds, SHORTEST)) - self._log)

    @property
    def seconds(self) -> float:
        return math.exp(self._log)

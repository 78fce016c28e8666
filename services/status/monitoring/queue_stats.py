"""How the queue moves: what arrives, what is begun, what ends, and how long a file will wait.

Made of looks at counts that no pod can get wrong: how many uploads and new runs Kafka has, and how
many files MongoDB has in each status. What left the queue between two looks is what arrived less
what it grew by; the place of a file is the length of the queue less what arrived after it.

A look is a second old, a few where counting takes long, and files overtake each other (small ones,
those of other owners), so places and waits are estimates. Of a file that this pod has seen come,
its own line tells the place (`line.py`).
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pydantic import BaseModel, Field

from services.status.live.update import Update
from services.status.monitoring.queue_positions import ENOUGH, WINDOWS, WaitingLine
from services.status.projection.projection import FileState, Status

WINDOW = 60.0
"""Seconds that rates are measured over: shorter ones jump, longer ones are late."""

KEPT = 3600
"""Looks that are kept, one a second: who has waited longer than that is told an upper bound."""

FRESH = 30.0
"""Seconds after which a look tells nothing of the present any more: three times as long as it may
take until the next one."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was counted at one moment."""

    at: float
    """Seconds since the epoch."""
    arrived: int
    """Uploads and new runs, since the log began."""
    retrying: int
    """Files that wait for their next attempt."""
    files: Mapping[FileState, int]

    @property
    def queued(self) -> int:
        """Files that wait for their turn."""
        return max(0, self.files[FileState.PENDING] - self.retrying)

    @property
    def under_way(self) -> int:
        """Files that have not ended."""
        return self.files[FileState.PENDING] + self.files[FileState.PROCESSING]


class QueuePlace(BaseModel):
    """Where a pending file stands in the queue; an estimate."""

    position: int | None = Field(
        ge=1,
        description="1: the first of those that wait. It never grows. Owners take turns, so a file "
        "of another owner may be begun before. Null for users who may not see all files.",
    )
    length: int | None = Field(
        ge=1, description="Files in the queue. Null for users who may not see all files."
    )
    expected_seconds: float | None = Field(
        description="Until its work begins, at the recent pace; null if nothing tells it."
    )
    age_seconds: float | None = Field(
        default=None, ge=0, description="How old the estimate is; null if that is not known."
    )

    def without_others(self) -> "QueuePlace":
        """Return what says how long this file waits, and not how many files others have."""
        return self.model_copy(update={"position": None, "length": None})


class Rates(BaseModel):
    """Files a second, over the last minute."""

    arrived: float
    begun: float
    ended: float


class QueueStats:
    """The looks of the last hour."""

    def __init__(self) -> None:
        self.line = WaitingLine()
        """The files that this pod has seen come, in their order."""
        self._samples: list[Sample] = []
        self._times: list[float] = []

    def note(self, sample: Sample) -> None:
        """Remember what was counted, and forget what a clock that was set back calls later."""
        while self._times and self._times[-1] >= sample.at:
            del self._samples[-1], self._times[-1]
        self._samples.append(sample)
        self._times.append(sample.at)
        self.line.count(sample.queued)
        if len(self._samples) > 2 * KEPT:
            del self._samples[:KEPT], self._times[:KEPT]

    def follow(self, told: Sequence[Update], now: float) -> None:
        """Follow the states that this pod tells.

        Args:
            now: monotonic seconds.
        """
        self.line.observe((update.status for update in told), now)

    def latest(self, now: float) -> Sample | None:
        """What was counted last; None if that is long ago."""
        fresh = self._times and now - self._times[-1] <= FRESH
        return self._samples[-1] if fresh else None

    def rates(self) -> Rates:
        """What has moved within the last minute."""
        samples = self._recent()
        if len(samples) < 2:
            return Rates(arrived=0.0, begun=0.0, ended=0.0)
        first, last = samples[0], samples[-1]
        arrived = last.arrived - first.arrived
        seconds = last.at - first.at
        return Rates(
            arrived=arrived / seconds,
            begun=max(0, arrived - (last.queued - first.queued)) / seconds,
            ended=max(0, arrived - (last.under_way - first.under_way)) / seconds,
        )

    def is_moving(self, now: float) -> bool | None:
        """Whether files were begun within the last minute or are worked on; None if unknown."""
        sample, samples = self.latest(now), self._recent()
        if sample is None:
            return None
        if sample.files[FileState.PROCESSING] or self.rates().begun:
            return True
        return False if sample.at - samples[0].at >= WINDOW / 2 else None

    def place(self, status: Status, now: datetime, *, behind: float = 0.0) -> QueuePlace | None:
        """Where a file stands; None if it is not in the queue or that is not known.

        Args:
            behind: seconds since this pod had read all of the log.
        """
        if not is_queued(status) or status.updated_at is None:
            return None
        if (position := self.line.place(status.file_id)) is not None and behind <= FRESH:
            return QueuePlace(
                position=position,
                length=max(position, self.line.length),
                expected_seconds=self.line.expected(position, time.monotonic()),
                age_seconds=round(behind, 1),
            )
        sample = self.latest(now.timestamp())
        if sample is None:
            return None
        later = sample.arrived - self._arrived_until(status.updated_at.timestamp())
        position = max(1, round(sample.queued - later))
        return QueuePlace(
            position=position,
            length=max(position, sample.queued),
            expected_seconds=self.expected(position),
            age_seconds=round(max(0.0, now.timestamp() - sample.at), 1),
        )

    def expected(self, position: int) -> float | None:
        """Seconds until so many files are begun, at the pace of when there were files to begin."""
        seconds = 0.0
        for window in WINDOWS:
            begun, seconds = self._begun_within(window)
            if begun >= ENOUGH:
                break
        if seconds == 0:
            return 0.0  # The queue was empty a moment ago.
        return round(position * seconds / begun, 1) if begun else None

    def _begun_within(self, window: float) -> tuple[int, float]:
        """How many were begun within the last seconds, and in how many of them some waited."""
        begun, seconds = 0, 0.0
        for before, after in pairwise(self._recent(window)):
            if before.queued and after.queued:
                begun += max(0, after.arrived - before.arrived - (after.queued - before.queued))
                seconds += after.at - before.at
        return begun, seconds

    def _arrived_until(self, moment: float) -> float:
        """How many had arrived at a moment, between two looks in proportion."""
        place = bisect_left(self._times, moment)
        if place == 0 or place == len(self._times):
            return self._samples[min(place, len(self._samples) - 1)].arrived
        before, after = self._samples[place - 1], self._samples[place]
        share = (moment - before.at) / (after.at - before.at)
        return before.arrived + share * (after.arrived - before.arrived)

    def _recent(self, window: float = WINDOW) -> list[Sample]:
        if not self._times:
            return []
        return self._samples[bisect_left(self._times, self._times[-1] - window) :]


def is_queued(status: Status) -> bool:
    """Whether a file waits for its turn, and not for the time of its next attempt."""
    return status.status is FileState.PENDING and status.next_attempt_at is None

"""Throughput of the queue: arrivals, starts, ends, and the expected waiting time of a file.

The samples are counts on which all pods agree: the uploads and new runs in Kafka, and the files of
each status in MongoDB. The number of starts between two samples is the number of arrivals minus the
growth of the queue. The position of a file is the length of the queue minus later arrivals.

A sample is one second old, or several where counting takes long. Files also overtake each other
(small files, files of other owners). Positions and waiting times are therefore estimates. For files
that this pod has seen arrive, the position comes from its own queue (`queue_positions.py`).
"""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from pydantic import BaseModel, Field

from services.status.live.update import Update
from services.status.monitoring.queue_positions import ENOUGH, WINDOWS, WaitingQueue
from services.status.projection.projection import FileState, Status

WINDOW = 60.0
"""Seconds over which rates are measured. Shorter windows fluctuate, longer ones react late."""

KEPT = 3600
"""Samples that are kept, one a second. Files that have waited longer get an upper bound."""

FRESH = 30.0
"""Seconds after which a sample is no longer used: three times the longest interval between two."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Counts at one moment."""

    at: float
    """Seconds since the epoch."""
    arrived: int
    """Uploads and new runs since the log began."""
    retrying: int
    """Files that wait for their next attempt."""
    files: Mapping[FileState, int]

    @property
    def queued(self) -> int:
        """Files that wait for their turn."""
        return max(0, self.files[FileState.PENDING] - self.retrying)

    @property
    def under_way(self) -> int:
        """Unfinished files."""
        return self.files[FileState.PENDING] + self.files[FileState.PROCESSING]


class QueuePlace(BaseModel):
    """The place of a pending file in the queue: an estimate."""

    position: int | None = Field(
        ge=1,
        description="Position, 1 for the first waiting file. It never grows. Owners take turns, so "
        "a file of another owner may start first. Null for users who may not see all files.",
    )
    length: int | None = Field(
        ge=1, description="Files in the queue. Null for users who may not see all files."
    )
    expected_seconds: float | None = Field(
        description="Seconds until the work starts, at the recent pace; null if unknown."
    )
    age_seconds: float | None = Field(
        default=None, ge=0, description="Age of the estimate in seconds; null if unknown."
    )

    def without_others(self) -> "QueuePlace":
        """Return a copy without the members that reveal how many files others have."""
        return self.model_copy(update={"position": None, "length": None})


class Rates(BaseModel):
    """Files per second, over the last minute."""

    arrived: float
    begun: float
    ended: float


class QueueStats:
    """The samples of the last hour."""

    def __init__(self) -> None:
        self.queue = WaitingQueue()
        """The files that this pod has seen arrive, in order."""
        self._samples: list[Sample] = []
        self._times: list[float] = []

    def note(self, sample: Sample) -> None:
        """Add a sample; discard samples that appear later because the clock was set back."""
        while self._times and self._times[-1] >= sample.at:
            del self._samples[-1], self._times[-1]
        self._samples.append(sample)
        self._times.append(sample.at)
        self.queue.count(sample.queued)
        if len(self._samples) > 2 * KEPT:
            del self._samples[:KEPT], self._times[:KEPT]

    def follow(self, updates: Sequence[Update], now: float) -> None:
        """Update the queue from the states that this pod delivers.

        Args:
            now: monotonic seconds.
        """
        self.queue.observe((update.status for update in updates), now)

    def latest(self, now: float) -> Sample | None:
        """Return the latest sample; None if it is too old.

        Args:
            now: seconds since the epoch.
        """
        fresh = self._times and now - self._times[-1] <= FRESH
        return self._samples[-1] if fresh else None

    def rates(self) -> Rates:
        """Return the rates over the last minute."""
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
        """Return True if files are being processed or started within the last minute.

        None if unknown.

        Args:
            now: seconds since the epoch.
        """
        sample, samples = self.latest(now), self._recent()
        if sample is None:
            return None
        if sample.files[FileState.PROCESSING] or self.rates().begun:
            return True
        return False if sample.at - samples[0].at >= WINDOW / 2 else None

    def place(self, status: Status, now: datetime, *, behind: float = 0.0) -> QueuePlace | None:
        """Return the place of a file in the queue; None if it is not queued or unknown.

        Args:
            behind: seconds since this pod had last read the log to its end.
        """
        if not is_queued(status) or status.updated_at is None:
            return None
        if (position := self.queue.place(status.file_id)) is not None and behind <= FRESH:
            return QueuePlace(
                position=position,
                length=max(position, self.queue.length),
                expected_seconds=self.queue.expected(position, time.monotonic()),
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
        """Return the seconds until that many files start, at the pace of times with waiting files.

        None if nothing has started recently.
        """
        seconds = 0.0
        for window in WINDOWS:
            begun, seconds = self._begun_within(window)
            if begun >= ENOUGH:
                break
        if seconds == 0:
            return 0.0  # The queue was empty a moment ago.
        return round(position * seconds / begun, 1) if begun else None

    def _begun_within(self, window: float) -> tuple[int, float]:
        """Return how many files started within a window, and its seconds with files waiting."""
        begun, seconds = 0, 0.0
        for before, after in pairwise(self._recent(window)):
            if before.queued and after.queued:
                begun += max(0, after.arrived - before.arrived - (after.queued - before.queued))
                seconds += after.at - before.at
        return begun, seconds

    def _arrived_until(self, moment: float) -> float:
        """Return how many files had arrived at a moment, interpolated between samples."""
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
    """Return True if a file waits for its turn, not for the time of its next attempt."""
    return status.status is FileState.PENDING and status.next_attempt_at is None

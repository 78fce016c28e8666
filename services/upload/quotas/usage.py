"""What owners use of their allowances, here and on the other pods.

What is used here counts at once. The pods report it to each other in short intervals, so that what
is used elsewhere counts a moment later: nothing is refused for no reason, and too much is let in
for that moment only. A pod that starts hears the reports of the last day, after which every bucket
would be full again.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from services.upload.quotas.token_bucket import MOST_OWNERS, TokenBucket
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.errors import AllowanceError

log = logging.getLogger(__name__)

MINUTE, DAY = 60.0, 86_400.0

MOST_TOLD = 5_000
"""Owners in one report, some 300 kB, of which Kafka takes 1 MB; the others are in the next one."""

MOST_PODS = 10_000
"""Pods whose last report is remembered: one that starts again is another one."""

FRESH = 10.0
"""Seconds for which a report counts that tells of uploads under way. It is followed by the next one
within one, unless its pod died; beyond that it is what the clocks of two pods may differ by."""

SOON = 2
"""Seconds after which there may be a place for another upload."""


class Report(BaseModel):
    """What a pod tells the others. Owners stand there as hashes, as reports stay for a day."""

    pod: str
    number: int
    """Counts up, so that one that Kafka has twice counts once."""
    at: float
    """Unix seconds."""
    used: dict[str, tuple[int, int]]
    """Requests and bytes of each owner since the last report; bytes may be given back."""
    under_way: dict[str, int]
    """Uploads of each owner at this moment."""


def owner_of(asker: Principal) -> str:
    """What stands for an owner in keys and reports."""
    return _owner(asker.tenant, asker.owner)


@lru_cache(maxsize=MOST_OWNERS)
def _owner(tenant: str | None, owner: str | None) -> str:
    return hashlib.sha256(json.dumps([tenant, owner]).encode()).hexdigest()[:32]


class Usage:
    """The allowances of all owners."""

    def __init__(self, settings: UploadSettings, *, clock: Callable[[], float] = time.time) -> None:
        """Args:
        clock: Unix seconds, as pods compare them.
        """
        uploads, size = settings.owner_uploads, settings.owner_bytes
        self._uploads = TokenBucket(size=uploads, seconds=MINUTE) if uploads else None
        self._bytes = TokenBucket(size=size, seconds=DAY) if size else None
        self._at_once = settings.owner_at_once
        self.is_limited = bool(uploads or size or self._at_once)
        self._clock = clock
        self._pod = uuid4().hex
        self._under_way: Counter[str] = Counter()
        self._used: dict[str, tuple[int, int]] = {}
        """What no report has told yet."""
        self._number = 0
        self._report: Report | None = None
        """The last one, which is to be sent until Kafka has it."""
        self._is_sent = True
        self._heard: dict[str, int] = {}
        self._elsewhere: dict[str, Report] = {}
        """The last report of each other pod that has uploads under way."""

    @contextmanager
    def allowed(self, owner: str, announced: int) -> Iterator[list[int]]:
        """Let a request pass if it is allowed; the bytes that it brought go into the list.

        Raises:
            AllowanceError: it is not.
        """
        used: list[int] = []
        self._take(owner, announced)
        self._under_way[owner] += 1
        try:
            yield used
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]
            self._give_back(owner, announced - sum(used))

    def _take(self, owner: str, announced: int) -> None:
        now = self._clock()
        if self._at_once and self._all_under_way(owner, now) >= self._at_once:
            raise used_up(f"You have {self._at_once} uploads under way, as many as may be", SOON)
        if self._uploads:
            if wait := self._uploads.take(owner, 1, now):
                raise used_up(
                    f"You have sent {self._uploads.size:g} uploads within a minute, as many as are "
                    "allowed",
                    wait,
                )
            self._note(owner, 1, 0)
        if self._bytes:
            if wait := self._bytes.take(owner, announced, now):
                raise used_up(
                    f"You may upload {self._bytes.size:g} bytes a day, and too few are left for "
                    "this request",
                    wait,
                )
            self._note(owner, 0, announced)

    def _all_under_way(self, owner: str, now: float) -> int:
        reports = self._elsewhere.values()
        elsewhere = (each.under_way.get(owner, 0) for each in reports if now - each.at < FRESH)
        return self._under_way.get(owner, 0) + sum(elsewhere)

    def _give_back(self, owner: str, size: int) -> None:
        if size and self._bytes:
            self._bytes.give(owner, size, self._clock())
            self._note(owner, 0, -size)

    def _note(self, owner: str, uploads: int, size: int) -> None:
        before = self._used.pop(owner, (0, 0))
        self._used[owner] = (before[0] + uploads, before[1] + size)
        if len(self._used) > MOST_OWNERS:  # Kafka has been away for long.
            del self._used[next(iter(self._used))]

    def report(self) -> Report | None:
        """What the others do not know yet; None if there is nothing. The same until it is sent."""
        told_of_some = self._report is not None and self._report.under_way
        if self._is_sent and (self._used or self._under_way or told_of_some):
            owners = list(islice(self._used, MOST_TOLD))
            self._number += 1
            self._report = Report(
                pod=self._pod,
                number=self._number,
                at=self._clock(),
                used={owner: self._used.pop(owner) for owner in owners},
                under_way=dict(self._under_way),
            )
            self._is_sent = False
        return None if self._is_sent else self._report

    def sent(self) -> None:
        """Kafka has the last report."""
        self._is_sent = True

    def hear(self, told: bytes) -> None:
        """Count what a pod has reported; twice is harmless, and so is what this one has."""
        try:
            report = Report.model_validate_json(told)
        except ValidationError as error:
            log.warning("what a pod reports of uploads is none: %s", error)
            return
        if report.pod == self._pod or report.number <= self._heard.get(report.pod, 0):
            return
        self._heard.pop(report.pod, None)
        self._heard[report.pod] = report.number
        if len(self._heard) > MOST_PODS:
            del self._heard[next(iter(self._heard))]
        now = self._clock()
        at = min(report.at, now)
        for owner, (uploads, size) in report.used.items():
            if self._uploads:
                self._uploads.give(owner, -uploads, at)
            if self._bytes:
                self._bytes.give(owner, -size, at)
        self._elsewhere[report.pod] = report
        self._elsewhere = {
            pod: each
            for pod, each in self._elsewhere.items()
            if each.under_way and now - each.at < FRESH
        }


def used_up(why: str, wait: int) -> AllowanceError:
    """The refusal of what may be sent again in so many seconds."""
    error = AllowanceError(f"{why}; send it again in {wait} seconds.")
    error.retry_after = wait
    return error

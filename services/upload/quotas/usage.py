"""Per-owner usage on this pod and on the other pods.

Local usage counts at once. Pods report usage to each other at short intervals, so remote usage
counts a moment later. Nothing is rejected without reason, and only in that moment can too much be
admitted. A pod that starts reads the reports of the last day; after a day, every bucket is full
again.
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

from services.upload.quotas.token_bucket import MAX_OWNERS, TokenBucket
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.errors import AllowanceError

log = logging.getLogger(__name__)

MINUTE, DAY = 60.0, 86_400.0

MAX_REPORTED_OWNERS = 5_000
"""Maximum owners in one report, about 300 kB; Kafka accepts 1 MB. The rest go into the next one."""

MAX_PODS = 10_000
"""Maximum pods whose last report number is kept. A restarted pod counts as a new one."""

REPORT_TTL = 10.0
"""Seconds for which the concurrent uploads in a report count. A live pod sends the next report
within a second; the rest tolerates clock differences between pods."""

CONCURRENCY_RETRY_AFTER = 2
"""Seconds after which a client may retry once it has reached a limit on concurrent uploads."""


class Report(BaseModel):
    """A usage report of one pod. It names owners by hash, because reports are kept for a day."""

    pod: str
    number: int
    """Sequence number, so that a duplicate counts once."""
    at: float
    """Unix seconds."""
    used: dict[str, tuple[int, int]]
    """Requests and bytes of each owner since the last report; bytes are negative if returned."""
    under_way: dict[str, int]
    """Concurrent uploads of each owner."""


def owner_of(asker: Principal) -> str:
    """Return the hash that identifies an owner in keys and reports."""
    return _owner(asker.tenant, asker.owner)


@lru_cache(maxsize=MAX_OWNERS)
def _owner(tenant: str | None, owner: str | None) -> str:
    return hashlib.sha256(json.dumps([tenant, owner]).encode()).hexdigest()[:32]


class Usage:
    """The usage and limits of all owners."""

    def __init__(self, settings: UploadSettings, *, clock: Callable[[], float] = time.time) -> None:
        """Initialize empty usage.

        Args:
            settings: The per-owner limits.
            clock: Returns Unix seconds, which are comparable across pods.
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
        """Requests and bytes of each owner that no report contains yet."""
        self._number = 0
        self._report: Report | None = None
        """The last report, sent again until Kafka acknowledges it."""
        self._is_sent = True
        self._last_numbers: dict[str, int] = {}
        self._other_pods: dict[str, Report] = {}
        """The last report of each other pod with concurrent uploads."""

    @contextmanager
    def allowed(self, owner: str, announced: int) -> Iterator[list[int]]:
        """Apply the owner's limits to a request for the duration of the block.

        Args:
            owner: The owner's hash.
            announced: Bytes that the request is expected to upload.

        Yields:
            A list to which the block appends the number of bytes that it uploaded.

        Raises:
            AllowanceError: A limit is reached.
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
            raise quota_error(
                f"You have {self._at_once} uploads under way, which is the limit",
                CONCURRENCY_RETRY_AFTER,
            )
        if self._uploads:
            if wait := self._uploads.take(owner, 1, now):
                raise quota_error(
                    f"You have sent {self._uploads.size:g} uploads within a minute, which is the "
                    "limit",
                    wait,
                )
            self._add_used(owner, 1, 0)
        if self._bytes:
            if wait := self._bytes.take(owner, announced, now):
                raise quota_error(
                    f"You may upload {self._bytes.size:g} bytes a day, and this request exceeds "
                    "the rest",
                    wait,
                )
            self._add_used(owner, 0, announced)

    def _all_under_way(self, owner: str, now: float) -> int:
        reports = self._other_pods.values()
        elsewhere = (each.under_way.get(owner, 0) for each in reports if now - each.at < REPORT_TTL)
        return self._under_way.get(owner, 0) + sum(elsewhere)

    def _give_back(self, owner: str, size: int) -> None:
        if size and self._bytes:
            self._bytes.refund(owner, size, self._clock())
            self._add_used(owner, 0, -size)

    def _add_used(self, owner: str, uploads: int, size: int) -> None:
        before = self._used.pop(owner, (0, 0))
        self._used[owner] = (before[0] + uploads, before[1] + size)
        if len(self._used) > MAX_OWNERS:  # A long Kafka outage.
            del self._used[next(iter(self._used))]

    def report(self) -> Report | None:
        """Return the unsent usage; None if there is none. Repeats the report until it is sent."""
        had_concurrent = self._report is not None and self._report.under_way
        if self._is_sent and (self._used or self._under_way or had_concurrent):
            owners = list(islice(self._used, MAX_REPORTED_OWNERS))
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
        """Note that Kafka acknowledged the last report."""
        self._is_sent = True

    def apply(self, value: bytes) -> None:
        """Count a report of another pod. Duplicates and this pod's own reports are ignored."""
        try:
            report = Report.model_validate_json(value)
        except ValidationError as error:
            log.warning("ignored an invalid usage report: %s", error)
            return
        if report.pod == self._pod or report.number <= self._last_numbers.get(report.pod, 0):
            return
        self._last_numbers.pop(report.pod, None)
        self._last_numbers[report.pod] = report.number
        if len(self._last_numbers) > MAX_PODS:
            del self._last_numbers[next(iter(self._last_numbers))]
        now = self._clock()
        at = min(report.at, now)
        for owner, (uploads, size) in report.used.items():
            if self._uploads:
                self._uploads.refund(owner, -uploads, at)
            if self._bytes:
                self._bytes.refund(owner, -size, at)
        self._other_pods[report.pod] = report
        self._other_pods = {
            pod: each
            for pod, each in self._other_pods.items()
            if each.under_way and now - each.at < REPORT_TTL
        }


def quota_error(why: str, wait: int) -> AllowanceError:
    """Return a quota error that asks the client to wait this many seconds."""
    error = AllowanceError(f"{why}; try again in {wait} seconds.")
    error.retry_after = wait
    return error

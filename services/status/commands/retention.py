"""Retention: finished files are deleted when they are old enough.

The first rule that matches a file applies. A file that matches no rule is kept forever.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.status.commands.deletion import LEGAL_HOLD, Deletions
from services.status.projection.projection import FileState
from services.status.retention_rules import Rule
from services.status.store.query import Query, Sort
from services.status.store.store import FileStore
from shared.background.supervision import RunningLoop
from shared.events.events import utc_now

log = logging.getLogger(__name__)

INTERVAL = 3600.0
"""Seconds between two checks. Rules count days. Every pod checks, at its own times. Two pods that
find the same file do no harm."""

RETRY_DELAY = 60.0
"""Seconds before the next check after MongoDB or Kafka was unavailable."""

PAGE = 100
"""Files that are read at a time."""


class Retention:
    """Deletes files that exceed their retention period."""

    def __init__(self, rules: Sequence[Rule], store: FileStore, deletions: Deletions) -> None:
        self._rules = rules
        self._store = store
        self._deletions = deletions
        self._delay = random.uniform(0, INTERVAL)  # noqa: S311 - spreads the pods, no secret

    async def run(self, loop: RunningLoop) -> None:
        """Apply the rules every hour, until cancelled.

        Raises:
            UnavailableError: MongoDB or Kafka is unavailable. The next run starts after a minute.
        """
        while True:
            await asyncio.sleep(self._delay)
            self._delay = RETRY_DELAY
            if deleted := await self.apply(utc_now()):
                log.info("%d files exceeded their retention period and were deleted", deleted)
            loop.succeeded()
            self._delay = INTERVAL

    async def apply(self, now: datetime) -> int:
        """Delete the files that exceed their retention period; return their number.

        Raises:
            UnavailableError: MongoDB or Kafka is unavailable.
        """
        return sum([await self._apply(number, now) for number in range(len(self._rules))])

    async def _apply(self, number: int, now: datetime) -> int:
        rule, earlier = self._rules[number], self._rules[:number]
        query = Query(
            status=frozenset(state for state in FileState if state.is_terminal),
            owner=rule.owner,
            labels=frozenset({rule.label} if rule.label else ()),
            created_before=now - timedelta(days=rule.days),
        )
        deleted, after = 0, None
        while True:
            page = await self._store.find(query, sort=Sort.OLDEST_FIRST, limit=PAGE, after=after)
            for status in page.items:
                if LEGAL_HOLD in status.labels or not rule.is_for(status):
                    continue
                if any(each.is_for(status) for each in earlier):
                    continue
                await self._deletions.delete(status, reason=f"kept for {rule.days:g} days")
                deleted += 1
            if (after := page.next) is None:
                return deleted

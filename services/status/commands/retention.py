"""Retention: files that have ended are deleted when they are old enough.

The rules are read from the first to the last, and the first that is for a file decides; a file that
no rule is for is kept for ever.
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
"""Seconds between two looks for files that are old enough: a rule counts days. Every pod looks, at
moments of its own; that two find the same file does no harm."""

RETRY_DELAY = 60.0
"""Seconds before another look while MongoDB or Kafka is away."""

PAGE = 100
"""Files that are read at a time."""


class Retention:
    """Deletes what need not be kept any longer."""

    def __init__(self, rules: Sequence[Rule], store: FileStore, deletions: Deletions) -> None:
        self._rules = rules
        self._store = store
        self._deletions = deletions
        self._delay = random.uniform(0, INTERVAL)  # noqa: S311 - spreads the pods, no secret

    async def run(self, loop: RunningLoop) -> None:
        """Apply the rules from time to time, until cancelled.

        Raises:
            UnavailableError: MongoDB or Kafka does not answer; the next run begins after a minute.
        """
        while True:
            await asyncio.sleep(self._delay)
            self._delay = RETRY_DELAY
            if deleted := await self.apply(utc_now()):
                log.info("%d files were old enough to be deleted", deleted)
            loop.succeeded()
            self._delay = INTERVAL

    async def apply(self, now: datetime) -> int:
        """Delete what is too old now; returns how many files that are.

        Raises:
            UnavailableError: MongoDB or Kafka does not answer.
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

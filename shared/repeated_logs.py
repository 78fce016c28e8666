"""Rate limit for repeated log lines of a library.

While Kafka is unavailable, aiokafka writes a hundred lines per second and hides all others.
"""

import logging
import time
from collections.abc import Callable

INTERVAL = 10.0
"""Seconds between two lines from the same log call."""


class RepeatedLines(logging.Filter):
    """Passes at most one line per log call and `INTERVAL`, with the number of suppressed lines.

    Lines count as repeated if the same line of code writes them.
    """

    def __init__(self, library: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Filter the loggers of one library.

        Args:
            library: name of the loggers to filter; all others pass.
            clock: monotonic seconds.
        """
        super().__init__(library)
        self._clock = clock
        self._passed_at: dict[tuple[str, int], float] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is to be written."""
        if not super().filter(record):
            return True
        kind, now = (record.pathname, record.lineno), self._clock()
        passed_at = self._passed_at.get(kind)
        if passed_at is not None and now - passed_at < INTERVAL:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return False
        self._passed_at[kind] = now
        if more := self._held_back.pop(kind, 0):
            record.msg = f"{record.getMessage()} ({more} similar lines were suppressed)"
            record.args = None
        return True

"""Log lines of a library that repeats itself: one of a kind in a while, with the count of the rest.

While Kafka is away, aiokafka writes a hundred lines a second, in which all others are lost.
"""

import logging
import time
from collections.abc import Callable

INTERVAL = 10.0
"""Seconds between two lines of one kind."""


class RepeatedLines(logging.Filter):
    """Passes the first line of a kind, and then one in `INTERVAL` seconds that counts the rest.

    Lines are of one kind if the same line of code writes them.
    """

    def __init__(self, library: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        library: name of the loggers that are filtered; all others pass.
        clock: monotonic seconds.
        """
        super().__init__(library)
        self._clock = clock
        self._passed_at: dict[tuple[str, int], float] = {}
        self._held_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if not super().filter(record):
            return True
        kind, now = (record.pathname, record.lineno), self._clock()
        passed_at = self._passed_at.get(kind)
        if passed_at is not None and now - passed_at < INTERVAL:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return False
        self._passed_at[kind] = now
        if more := self._held_back.pop(kind, 0):
            record.msg = f"{record.getMessage()} (and {more} lines like it since the last one)"
            record.args = None
        return True

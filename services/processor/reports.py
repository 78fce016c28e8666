"""Select the progress reports to send: the first, the last, and a few per second in between.

Reports are advisory. Invalid values are corrected or dropped, and never fail a file.
"""

import math

from shared.events.facts import Progress
from shared.events.storable import MAX_INT

INTERVAL = 0.25
"""Seconds between two reports of one phase: four a second look live and cost little."""

BURST = 8
"""Reports that may exceed that rate, such as the start and end of short phases."""

MAX_NAME, MAX_MESSAGE = 64, 200
"""Characters of a phase and of a message: one line on the page."""


PARTS = 10_000
"""Parts into which a fractional total is divided: hundredths of a percent."""


def measured(done: object, total: object) -> Progress:
    """Convert any two values of a step to progress; the total is 0 if it is unknown."""
    so_far, whole = _number(done) or 0, _number(total) or 0
    if not whole:
        return Progress(done=min(int(so_far), MAX_INT), total=0)
    so_far = min(so_far, whole)
    if so_far != int(so_far) or whole != int(whole) or whole > MAX_INT:
        return Progress(done=int(so_far / whole * PARTS), total=PARTS)
    return Progress(done=int(so_far), total=int(whole))


def _number(value: object) -> float | None:
    """Return a number of at least 0; None for anything not numeric or not finite."""
    if isinstance(value, int):
        return max(0, value)
    if value is None or isinstance(value, str | bytes | bytearray):
        return None
    try:
        number = float(value)  # type: ignore[arg-type] # numpy's numbers, decimals and the like
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


class Reports:
    """Selects the reports of one job; the caller passes the time."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._ended = False
        self._last = 0.0
        self._credit = float(BURST)

    def is_due(self, phase: str, *, done: int, total: int, now: float) -> bool:
        """Return True if this report is to be sent.

        Args:
            now: seconds of a monotonic clock.
        """
        credit = min(BURST, self._credit + (now - self._last) / INTERVAL)
        is_new = phase != self._phase
        is_end = done >= total and not self._ended
        is_late = now - self._last >= INTERVAL
        if not (is_new or is_end or is_late) or credit < 1:
            return False
        self._phase, self._ended = phase, done >= total
        self._credit, self._last = credit - 1, now
        return True

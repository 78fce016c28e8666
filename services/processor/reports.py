"""Which reports of progress are worth telling: the first, the last, and a few a second between."""

INTERVAL = 0.25
"""Seconds between two reports of one phase: four a second look live and cost little."""

BURST = 8
"""Reports that may follow one another faster, as those do that begin and end short phases."""

MAX_NAME, MAX_MESSAGE = 64, 200
"""Characters of a phase and of a message: a line on a page."""


class Reports:
    """Decides on the reports of one job; asks for the time instead of looking at a clock."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._ended = False
        self._last = 0.0
        self._credit = float(BURST)

    def is_due(self, phase: str, *, done: int, total: int, now: float) -> bool:
        """Whether this report is to be told.

        Args:
            now: seconds of any clock that only goes forward.
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

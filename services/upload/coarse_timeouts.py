"""Cheap timeouts for waits that occur thousands of times a second and rarely expire.

`asyncio.timeout` sets a timer for each wait and costs 4 µs, twice per small upload. These cost
0.7 µs: a single timer checks all waits periodically, and stops while there are none.
"""

import asyncio
from types import TracebackType

CHECK_INTERVAL = 0.1
"""Seconds between two checks, and the maximum delay of a timeout."""


class CoarseTimeouts:
    """Cancels waits that exceed their timeout. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def timeout(self, seconds: float) -> "Wait":
        """Return a context manager that limits its block to `seconds`, within `CHECK_INTERVAL`.

        Raises:
            TimeoutError: The block took longer and was cancelled.
        """
        return Wait(self, seconds)

    def add(self, wait: "Wait") -> None:
        """Start to track a wait."""
        self._waits.add(wait)
        if self._timer is None:
            self._schedule_check()

    def remove(self, wait: "Wait") -> None:
        """Stop tracking a wait."""
        self._waits.discard(wait)

    def _schedule_check(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check)

    def _check(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for wait in [each for each in self._waits if each.until < now]:
            self._waits.remove(wait)
            wait.cancel()
        if self._waits:
            self._schedule_check()


class Wait:
    """One wait. It distinguishes its own cancellation from others as `asyncio.Timeout` does."""

    def __init__(self, timeouts: CoarseTimeouts, seconds: float) -> None:
        self._timeouts = timeouts
        self._seconds = seconds
        self._is_cancelled = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a timeout must be used inside a task")
        self._task, self._cancelling = task, task.cancelling()
        self.until = loop.time() + self._seconds
        self._timeouts.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timeouts.remove(self)
        is_ours = self._is_cancelled and self._task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def cancel(self) -> None:
        """Cancel the task of the block."""
        self._is_cancelled = True
        self._task.cancel()

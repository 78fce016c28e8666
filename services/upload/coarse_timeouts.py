"""Time-outs for what thousands a second wait for, and which hardly ever takes so long.

`asyncio.timeout` sets a timer for each wait and takes 4 µs, twice in each small upload. Here it is
0.7: one timer looks after all that wait, now and then, and rests while nobody does.
"""

import asyncio
from types import TracebackType

LOOK_EVERY = 0.1
"""Seconds between two looks: by as much a wait may be longer than it should."""


class CoarseTimeouts:
    """Ends waits that take too long; belongs to one event loop."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def of(self, seconds: float) -> "Wait":
        """A `with` block that may take so many seconds, and up to `LOOK_EVERY` more.

        Raises:
            TimeoutError: it took longer; what its task waited for then was cancelled.
        """
        return Wait(self, seconds)

    def begin(self, wait: "Wait") -> None:
        """Look after a wait from now on."""
        self._waits.add(wait)
        if self._timer is None:
            self._look_later()

    def end(self, wait: "Wait") -> None:
        """Look after it no more."""
        self._waits.discard(wait)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for wait in [each for each in self._waits if each.until < now]:
            self._waits.remove(wait)
            wait.cancel()
        if self._waits:
            self._look_later()


class Wait:
    """One wait; what cancels it and what else does are told apart as `asyncio.Timeout` does it."""

    def __init__(self, timeouts: CoarseTimeouts, seconds: float) -> None:
        self._timeouts = timeouts
        self._seconds = seconds
        self._is_cancelled = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("only what a task waits for can be cancelled")
        self._task, self._cancelling = task, task.cancelling()
        self.until = loop.time() + self._seconds
        self._timeouts.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timeouts.end(self)
        is_ours = self._is_cancelled and self._task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def cancel(self) -> None:
        """Have the task of the block wait no longer."""
        self._is_cancelled = True
        self._task.cancel()

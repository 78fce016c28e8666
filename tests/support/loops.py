"""Background loops without a supervisor, for tests of what one run does."""

import time

from shared.background.loops import Loop, LoopHealth
from shared.background.supervision import RunningLoop

LOOP = Loop(name="test", late_after=60, vital=False, purpose="Is tested.", when_late="Nothing.")


def one_run() -> RunningLoop:
    """Where one run of a loop says how it is doing; nobody listens."""
    return RunningLoop(LoopHealth(LOOP, time.monotonic()), time.monotonic)

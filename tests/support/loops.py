"""Background loops without a supervisor, for tests of a single run."""

import time

from shared.background.loops import Loop, LoopHealth
from shared.background.supervision import RunningLoop

LOOP = Loop(name="test", late_after=60, vital=False, purpose="Is tested.", when_late="Nothing.")


def one_run() -> RunningLoop:
    """Return a handle for one run of a loop; its reports are ignored."""
    return RunningLoop(LoopHealth(LOOP, time.monotonic()), time.monotonic)

"""Kill each background loop of a service by name, and wait until it runs again."""

import asyncio
from collections.abc import Iterable

from shared.background.loops import Loop
from shared.background.supervision import Supervisor
from shared.telemetry import LOOP_FAILURES


def failures(name: str) -> float:
    """Return the number of failures of a loop in this process."""
    value: float = LOOP_FAILURES.labels(loop=name)._value.get()
    return value


async def kill_each(supervisor: Supervisor, loops: Iterable[Loop]) -> None:
    """Cancel each loop, like a stray `CancelledError` of a library; return once all run again."""
    for loop in loops:
        if not loop.restartable:
            continue
        before, killed = failures(loop.name), supervisor._running[loop.name].body
        assert killed is not None
        supervisor.kill(loop.name)
        async with asyncio.timeout(30):
            while (now := supervisor._running[loop.name].body) is killed or now is None:
                await asyncio.sleep(0.02)
        assert failures(loop.name) >= before + 1

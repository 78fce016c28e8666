"""The loop by which every service knows Kafka's time, also while it publishes nothing else.

Events that a pod publishes correct its clock as well, but a status pod publishes next to none, and
what any pod decides before its first event would be decided by a clock that nobody has checked.
"""

import asyncio
from functools import partial

from shared.background.loops import Loop
from shared.background.supervision import Run, RunningLoop
from shared.errors import UnavailableError
from shared.kafka.publishing import Publisher

PROBE_EVERY = 60.0
"""Seconds between two probes: clocks are set, and drift."""

RETRY_EVERY = 1.0
"""Seconds between two tries while Kafka does not answer."""

CLOCK_PROBE = Loop(
    name="clock-probe",
    late_after=5 * PROBE_EVERY,
    vital=False,
    purpose="Measures how far this machine's clock is from Kafka's, and corrects it.",
    when_late="If the clock is wrong: unknown ids are judged young or old wrongly, and times of "
    "files are wrong.",
)


def clock_probe(publisher: Publisher) -> Run:
    """What measures by records of this publisher, as a supervisor runs it."""
    return partial(_probe, publisher)


async def _probe(publisher: Publisher, loop: RunningLoop) -> None:
    while True:
        try:
            await publisher.probe_clock()
        except UnavailableError:
            loop.waits_for("Kafka")
            await asyncio.sleep(RETRY_EVERY)
        else:
            loop.succeeded()
            await asyncio.sleep(PROBE_EVERY)

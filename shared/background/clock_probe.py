"""The loop that compares the local clock with Kafka's, even while a service publishes nothing.

Published events correct the clock as well. But a status pod publishes very few, and without a probe
any pod would use an unverified clock until its first event.
"""

import asyncio
from functools import partial

from shared.background.loops import Loop
from shared.background.supervision import Run, RunningLoop
from shared.errors import UnavailableError
from shared.kafka.publishing import Publisher

PROBE_EVERY = 60.0
"""Seconds between two probes. Clocks drift and are adjusted."""

RETRY_EVERY = 1.0
"""Seconds between two attempts while Kafka is unavailable."""

CLOCK_PROBE = Loop(
    name="clock-probe",
    late_after=5 * PROBE_EVERY,
    vital=False,
    purpose="Measures the offset between this machine's clock and Kafka's, and corrects for it.",
    when_late="If the clock is wrong: the age of unknown ids and the times of files are wrong.",
)


def clock_probe(publisher: Publisher) -> Run:
    """Return the function for a supervisor that probes the clock with this publisher."""
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

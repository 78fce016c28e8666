"""Striking Kafka and MongoDB: killed or stopped, and started again on their data."""

import asyncio
import os
import signal
import time

from shared.events import utc_now
from tests.chaos.faults import AWAY, Fault, Hit, Kind
from waybill.local.kafka import wait_for_kafka
from waybill.local.mongodb import wait_for_mongodb
from waybill.local.parts import Parts

STOP_TIMEOUT = 20.0
"""Seconds for a broker to end in good order under load."""


class PartStriker:
    """Carries out the faults that are about Kafka and MongoDB; both must be our own processes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def strike(self, fault: Fault) -> Hit:
        """Carry out a fault; returns when the part answers again."""
        begin = utc_now()
        name = "mongodb" if fault.kind is Kind.KILL_MONGODB else "kafka"
        part = self._parts.children[name]
        if fault.kind is Kind.STOP_BROKER:
            part.terminate()
        else:
            os.kill(part.pid, signal.SIGKILL)
        await asyncio.to_thread(part.finish, time.monotonic() + STOP_TIMEOUT)
        await asyncio.sleep(AWAY[fault.kind])
        self._parts.children[name] = again = part.again()
        if name == "kafka":
            await asyncio.to_thread(wait_for_kafka, again, self._parts.kafka)
        else:
            await asyncio.to_thread(wait_for_mongodb, again, self._parts.mongodb)
        return Hit(fault.kind, None, begin, utc_now())

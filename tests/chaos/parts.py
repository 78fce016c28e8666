"""Inject faults into Kafka, MongoDB and disks; stopped services are restarted with their data."""

import asyncio
import os
import signal
import time

from shared.events.events import utc_now
from tests.chaos.disks import Disks, keep_full
from tests.chaos.faults import AWAY, MONGODB_FAULTS, Fault, Hit, Kind
from waybill.local.kafka import wait_for_kafka
from waybill.local.mongodb import wait_for_mongodb
from waybill.local.parts import Parts

STOP_TIMEOUT = 20.0
"""Seconds for Kafka or MongoDB to stop cleanly under load."""


class PartStriker:
    """Injects faults into Kafka, MongoDB and disks, all of which must belong to the run."""

    def __init__(self, parts: Parts, disks: Disks) -> None:
        self._parts = parts
        self._disks = disks

    async def strike(self, fault: Fault) -> Hit:
        """Inject a fault. Return when the service answers again or the disk has space."""
        begin = utc_now()
        away = AWAY[fault.kind]
        part = "mongodb" if fault.kind in MONGODB_FAULTS else "kafka"
        match fault.kind:
            case Kind.FILL_SCRATCH | Kind.FILL_BLOBS:
                await keep_full(self._disks[fault.kind], seconds=away)
            case Kind.FILL_LOG:
                # Kafka ends by itself at its first write; if there was none, it is stopped next.
                await keep_full(self._disks[fault.kind], seconds=away)
                await self._end(part, signal.SIGKILL)
                await self._start(part)
            case Kind.FREEZE_BROKER:
                os.kill(self._parts.children[part].pid, signal.SIGSTOP)
                await asyncio.sleep(away)
                os.kill(self._parts.children[part].pid, signal.SIGCONT)
            case Kind.STOP_BROKER | Kind.STOP_MONGODB:
                await self._end(part, signal.SIGTERM)
                await asyncio.sleep(away)
                await self._start(part)
            case _:
                await self._end(part, signal.SIGKILL)
                await asyncio.sleep(away)
                await self._start(part)
        return Hit(fault.kind, None, begin, utc_now())

    async def _end(self, name: str, number: signal.Signals) -> None:
        part = self._parts.children[name]
        if part.alive:
            os.kill(part.pid, number)
        await asyncio.to_thread(part.finish, time.monotonic() + STOP_TIMEOUT)

    async def _start(self, name: str) -> None:
        self._parts.children[name] = again = self._parts.children[name].again()
        if name == "kafka":
            await asyncio.to_thread(wait_for_kafka, again, self._parts.kafka)
        else:
            await asyncio.to_thread(wait_for_mongodb, again, self._parts.mongodb)

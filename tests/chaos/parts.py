"""Striking Kafka, MongoDB and the disks; what is ended is started again on its data."""

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
"""Seconds for a part to end in good order under load."""


class PartStriker:
    """Carries out the faults that are about Kafka, MongoDB and disks; all must be the run's own."""

    def __init__(self, parts: Parts, disks: Disks) -> None:
        self._parts = parts
        self._disks = disks

    async def strike(self, fault: Fault) -> Hit:
        """Carry out a fault; returns when the part answers again, or the disk has room."""
        begin = utc_now()
        away = AWAY[fault.kind]
        part = "mongodb" if fault.kind in MONGODB_FAULTS else "kafka"
        match fault.kind:
            case Kind.FILL_SCRATCH | Kind.FILL_BLOBS:
                await keep_full(self._disks[fault.kind], seconds=away)
            case Kind.FILL_LOG:
                # Kafka ends by itself at its first write; if none came, the next lines end it.
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

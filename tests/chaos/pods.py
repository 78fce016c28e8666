"""The services of a run: upload, status, and pods that come and go; each life has its own name."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from shared.events.events import utc_now
from shared.settings import Settings
from tests.chaos.children import (
    NOTHING,
    Children,
    address_of,
    killed_loops,
    until_ready,
    wrong_clock,
)
from tests.chaos.faults import (
    ODD_LIFE,
    PAUSE,
    RESTART_AFTER,
    SKEW,
    STATUS_FAULTS,
    Fault,
    Hit,
    Kind,
)
from waybill.local.process import Child

END_TIMEOUT = 15.0
"""Seconds for a pod to stop after SIGTERM; well above its shutdown grace."""

CHECK_INTERVAL = 0.2
"""Seconds between two checks for processes that have ended."""

SERVICES = ("upload", "status")

SERVICE_CLOCKS = {"upload": -SKEW, "status": SKEW}
"""How far the clocks of upload and status are ahead when both are wrong."""


class Pods:
    """The services of one installation, each in a separate process."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._children = Children(settings, folder)
        self._lives = 0
        self._slots: list[Child] = []
        self._services: dict[str, Child] = {}
        """Upload and status."""
        self._recorded: set[int] = set()
        """Process ids whose end has been recorded."""
        self.ended: list[Hit] = []
        """Processes that ended by themselves."""
        self.fallen: list[str] = []
        """Those that did not log a reason, and how they ended."""

    async def start(self, count: int) -> None:
        """Start upload, status and `count` pods, and wait until all are ready."""
        self._services = {name: self._children.start(name, name) for name in SERVICES}
        self._slots = [self._pod() for _ in range(count)]
        await asyncio.gather(*map(until_ready, (*self._services.values(), *self._slots)))

    async def start_fresh_status(self) -> str:
        """Start a status pod without history, and return its address."""
        fresh = self._children.start("fresh-status", "status")
        await until_ready(fresh)
        return address_of(fresh)

    async def restart_ended(self) -> None:
        """Restart processes that end by themselves, as an orchestrator does, until cancelled."""
        while True:
            for child in (*self._slots, *self._services.values()):
                if child.alive or child.pid in self._recorded:
                    continue
                self._recorded.add(child.pid)
                if not self._children.logged_reason(child):
                    self.fallen.append(f"{child.name} {child.how_it_ended()}\n{child.last_lines()}")
                now = utc_now()
                self.ended.append(Hit(Kind.END, child.name, now, now))
                if child in self._slots:
                    self._slots[self._slots.index(child)] = self._pod()
                else:
                    self._restart(child.name)
            await asyncio.sleep(CHECK_INTERVAL)

    def stop(self) -> None:
        """Stop everything."""
        running = [child for child in self._children.all if child.alive]
        for child in running:
            _signal_group(child, signal.SIGCONT)
            child.terminate()
        deadline = time.monotonic() + END_TIMEOUT
        for child in running:
            child.finish(deadline)

    @property
    def upload_url(self) -> str:
        return address_of(self._services["upload"])

    @property
    def status_url(self) -> str:
        return address_of(self._services["status"])

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each running service, by name."""
        return {child.name: address_of(child) for child in self._children.all if child.alive}

    @property
    def logs(self) -> dict[str, int]:
        """Bytes that each service logged."""
        return {child.name: child.log.stat().st_size for child in self._children.all}

    async def inject(self, fault: Fault) -> Hit:
        """Inject a fault. Return when the target has recovered."""
        begin = utc_now()
        if fault.kind in STATUS_FAULTS:
            await self._strike_services(fault)
            return Hit(fault.kind, None, begin, utc_now())
        if fault.kind is Kind.ADD:
            added = self._pod()
            self._slots.append(added)
            await self._until_ready(added)
            return Hit(fault.kind, added.name, begin, utc_now())
        assert fault.slot is not None
        pod = self._slots[fault.slot]
        if fault.kind is Kind.PAUSE:
            _signal_group(pod, signal.SIGSTOP)
            await asyncio.sleep(PAUSE)
            _signal_group(pod, signal.SIGCONT)
            return Hit(fault.kind, pod.name, begin, utc_now())
        await self._end(pod, signal.SIGKILL if fault.kind is Kind.KILL else signal.SIGTERM)
        self._slots[fault.slot] = again = self._pod(_next_life(fault.kind))
        await self._until_ready(again)
        return Hit(fault.kind, pod.name, begin, utc_now())

    async def _strike_services(self, fault: Fault) -> None:
        if fault.kind is Kind.KILL_STATUS:
            await self._end(self._services["status"], signal.SIGKILL)
            await self._until_ready(self._restart("status"))
            return
        lives = {name: killed_loops(name) for name in SERVICES}
        if fault.kind is Kind.WRONG_SERVICE_CLOCKS:
            lives = {name: wrong_clock(skew) for name, skew in SERVICE_CLOCKS.items()}
        await asyncio.gather(*(self._renew(name, further) for name, further in lives.items()))
        await asyncio.sleep(ODD_LIFE)
        await asyncio.gather(*map(self._renew, SERVICES))

    async def _renew(self, name: str, further: Mapping[str, str] = NOTHING) -> None:
        await self._end(self._services[name], signal.SIGTERM)
        await self._until_ready(self._restart(name, further))

    async def _until_ready(self, child: Child) -> None:
        """Wait until a service is ready, ends while starting, or takes too long.

        The promises report the latter two.
        """
        ready = asyncio.create_task(until_ready(child))
        while not ready.done() and child.alive:
            await asyncio.sleep(0.1)
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)

    async def _end(self, child: Child, number: signal.Signals) -> None:
        """End a process, and wait as long as an orchestrator needs to notice."""
        self._recorded.add(child.pid)
        if child.alive:
            os.kill(child.pid, number)
        await asyncio.to_thread(child.finish, time.monotonic() + END_TIMEOUT)
        await asyncio.sleep(RESTART_AFTER)

    def _restart(self, name: str, further: Mapping[str, str] = NOTHING) -> Child:
        """Start the next life of upload or status at its old address."""
        port = self._services[name].environment["WAYBILL_PORT"]
        again = self._children.start(name, name, port=port, further=further)
        self._services[name] = again
        return again

    def _pod(self, further: Mapping[str, str] = NOTHING) -> Child:
        self._lives += 1
        return self._children.start(f"pod-{self._lives}", "processor", further=further)


def _next_life(kind: Kind) -> Mapping[str, str]:
    """Return the environment for the life after a fault."""
    match kind:
        case Kind.SLOW_CLOCK:
            return wrong_clock(-SKEW)
        case Kind.FAST_CLOCK:
            return wrong_clock(SKEW)
        case Kind.KILL_LOOPS:
            return killed_loops("processor")
    return NOTHING


def _signal_group(child: Child, number: signal.Signals) -> None:
    """Send a signal to a process and its workers, as a frozen machine stops all of them."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)

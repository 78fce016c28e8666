"""The processes of a run: upload, status, and pods that come and go; each life has its own name."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx

from shared.events import utc_now
from shared.settings import Settings
from tests.chaos.faults import PAUSE, RESTART_AFTER, Fault, Hit, Kind
from tests.chaos.plan import MAX_ATTEMPTS, MEMORY_LIMIT, TIME_LIMIT
from waybill.local.ports import HOST, free_port
from waybill.local.process import Child

READY_TIMEOUT = 120.0
"""Seconds until a service is ready: Kafka may be away, and the machine busy with everything."""

GRACE = 3.0
"""Seconds a drained pod may use: some of the work ends in it, some is given back."""

END_TIMEOUT = 15.0
"""Seconds for a pod that was asked to end; well above its grace."""

WORKERS = 2


class Pods:
    """The services of one installation, each a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._lives = 0
        self._slots: list[Child] = []
        self._children: list[Child] = []
        self._struck: set[int] = set()
        """Process ids of those that were made to end."""
        self.upload_url = ""
        self._status: Child | None = None

    async def start(self, count: int) -> None:
        """Start upload, status and `count` pods; returns when all are ready."""
        upload = self._child("upload", "services.upload")
        self._status = self._child("status", "services.status")
        self._slots = [self._pod() for _ in range(count)]
        self.upload_url = _address(upload)
        await asyncio.gather(*map(until_ready, (upload, self._status, *self._slots)))

    def stop(self) -> None:
        """End everything."""
        running = [child for child in self._children if child.alive]
        for child in running:
            _signal_group(child, signal.SIGCONT)
            child.terminate()
        deadline = time.monotonic() + END_TIMEOUT
        for child in running:
            child.finish(deadline)

    @property
    def fallen(self) -> list[str]:
        """Services that ended though nothing was done to them, and how."""
        return [
            f"{child.name} {child.how_it_ended()}\n{child.last_lines()}"
            for child in self._children
            if not child.alive and child.pid not in self._struck
        ]

    @property
    def logs(self) -> dict[str, int]:
        """Bytes that each service wrote into its log."""
        return {child.name: child.log.stat().st_size for child in self._children}

    async def suffer(self, fault: Fault) -> Hit:
        """Carry out a fault; returns when what was hit is itself again."""
        begin = utc_now()
        match fault.kind:
            case Kind.ADD:
                added = self._pod()
                self._slots.append(added)
                await self._until_ready_or_struck(added)
                return Hit(fault.kind, added.name, begin, utc_now())
            case Kind.KILL_STATUS:
                assert self._status is not None
                self._struck.add(self._status.pid)
                os.kill(self._status.pid, signal.SIGKILL)
                self._status = await self._start_again(self._status)
                await until_ready(self._status)
                return Hit(fault.kind, None, begin, utc_now())
        assert fault.slot is not None
        pod = self._slots[fault.slot]
        if fault.kind is not Kind.PAUSE:
            self._struck.add(pod.pid)
        match fault.kind:
            case Kind.KILL:
                os.kill(pod.pid, signal.SIGKILL)
            case Kind.DRAIN:
                pod.terminate()
            case Kind.PAUSE:
                _signal_group(pod, signal.SIGSTOP)
                await asyncio.sleep(PAUSE)
                _signal_group(pod, signal.SIGCONT)
                return Hit(fault.kind, pod.name, begin, utc_now())
        await asyncio.to_thread(pod.finish, time.monotonic() + END_TIMEOUT)
        await asyncio.sleep(RESTART_AFTER)
        self._slots[fault.slot] = again = self._pod()
        await self._until_ready_or_struck(again)
        return Hit(fault.kind, pod.name, begin, utc_now())

    async def _until_ready_or_struck(self, pod: Child) -> None:
        """Wait for a pod, unless the next fault ends it while it is still starting."""
        ready = asyncio.create_task(until_ready(pod))
        while not ready.done() and pod.pid not in self._struck:
            await asyncio.sleep(0.1)
        if pod.pid in self._struck:
            ready.cancel()
            await asyncio.wait({ready})
        else:
            await ready

    async def _start_again(self, dead: Child) -> Child:
        await asyncio.to_thread(dead.finish, time.monotonic() + END_TIMEOUT)
        await asyncio.sleep(RESTART_AFTER)
        again = dead.again()
        self._children.append(again)
        return again

    def _pod(self) -> Child:
        self._lives += 1
        return self._child(f"pod-{self._lives}", "services.processor")

    def _child(self, name: str, module: str) -> Child:
        settings = {
            f"WAYBILL_{field.upper()}": str(value)
            for field, value in self._settings.model_dump(exclude_none=True).items()
        }
        environment = {
            **os.environ,
            **settings,
            "WAYBILL_PORT": str(free_port()),
            "WAYBILL_POD": name,
            "WAYBILL_WORKERS": str(WORKERS),
            "WAYBILL_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "WAYBILL_TIME_LIMIT": str(TIME_LIMIT),
            "WAYBILL_MEMORY_LIMIT": str(MEMORY_LIMIT),
            "WAYBILL_BACKOFF_FIRST": "0.2",
            "WAYBILL_SHUTDOWN_GRACE": str(GRACE),
            "WAYBILL_SCRATCH": str(self._folder / "scratch"),
            "PYTHONUNBUFFERED": "1",
        }
        log = self._folder / "logs" / f"{name}.log"
        child = Child(name, [sys.executable, "-m", module], environment=environment, log=log)
        self._children.append(child)
        return child


async def until_ready(child: Child) -> None:
    """Wait until a service says that it can serve.

    Raises:
        TimeoutError: it does not in time.
    """
    async with asyncio.timeout(READY_TIMEOUT), httpx.AsyncClient(timeout=1) as http:
        while True:
            assert child.alive, f"{child.name} {child.how_it_ended()}\n{child.last_lines()}"
            try:
                if (await http.get(f"{_address(child)}/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # It does not listen yet.
            await asyncio.sleep(0.1)


def _address(child: Child) -> str:
    return f"http://{HOST}:{child.environment['WAYBILL_PORT']}"


def _signal_group(child: Child, number: signal.Signals) -> None:
    """Send a signal to a process and its workers, as a frozen machine stops them all."""
    os.killpg(child.pid, number)

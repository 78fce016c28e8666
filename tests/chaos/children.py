"""Start the processes of a run, wait for readiness, and report how they ended."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import httpx

from shared.settings import Settings
from tests.chaos import clocks
from tests.chaos.gauges import loops_of
from tests.chaos.plan import MAX_ATTEMPTS, MEMORY_LIMIT, TIME_LIMIT
from waybill.local.ports import HOST, free_port
from waybill.local.process import Child

READY_TIMEOUT = 120.0
"""Seconds until a service is ready; Kafka may be away, and the machine is under load."""

GRACE = 3.0
"""Seconds of shutdown grace: part of the work finishes in it, part is released."""

WORKERS = 2

HEARTBEAT = 5.0
"""Seconds of silence after which a stream sends its next cursor."""

KILL_EVERY = (5.0, 0.7)
"""Seconds between two kills of the first loop, and the increment for each further loop, so that
they do not die together."""

END_REASON = "cannot be restarted: the pod ends"
"""Log text of a pod that ends because a loop cannot be restarted."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class Children:
    """Starts the services of one installation, each life in a separate process."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._begins: dict[int, int] = {}
        """Log position at which each process started, by process id."""
        self.all: list[Child] = []

    def start(
        self, name: str, service: str, *, port: str = "", further: Mapping[str, str] = NOTHING
    ) -> Child:
        """Start a service.

        Args:
            name: name of this life, and of its log.
            port: port of an earlier life; a free one by default.
            further: additional environment variables.
        """
        settings = {
            f"WAYBILL_{field.upper()}": str(value)
            for field, value in self._settings.model_dump(exclude_none=True).items()
        }
        environment = {
            **os.environ,
            **settings,
            "WAYBILL_PORT": port or str(free_port()),
            "WAYBILL_POD": name,
            "WAYBILL_WORKERS": str(WORKERS),
            "WAYBILL_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
            "WAYBILL_TIME_LIMIT": str(TIME_LIMIT),
            "WAYBILL_MEMORY_LIMIT": str(MEMORY_LIMIT),
            "WAYBILL_BACKOFF_FIRST": "0.2",
            "WAYBILL_SHUTDOWN_GRACE": str(GRACE),
            "WAYBILL_PLUGINS": "tests.support.poison",
            "WAYBILL_SCRATCH": str(self._folder / "scratch"),
            "WAYBILL_HEARTBEAT": str(HEARTBEAT),
            "PYTHONUNBUFFERED": "1",
            **further,
        }
        log = self._folder / "logs" / f"{name}.log"
        begin = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", f"services.{service}"]
        child = Child(name, command, environment=environment, log=log)
        self._begins[child.pid] = begin
        self.all.append(child)
        return child

    def logged_reason(self, child: Child) -> bool:
        """Return True if a process logged that it ends, and why."""
        text = child.log.read_bytes()[self._begins[child.pid] :]
        return END_REASON.encode() in text


def wrong_clock(skew: timedelta) -> Mapping[str, str]:
    """Return the environment of a service whose clock is ahead by `skew`."""
    return clocks.environment(skew)


def killed_loops(service: str) -> Mapping[str, str]:
    """Return the environment of a service whose background loops are killed repeatedly."""
    names = [loop.name for loop in loops_of(service)]
    first, step = KILL_EVERY
    kills = [f"{name}:{first + step * number:.1f}" for number, name in enumerate(names)]
    return {"WAYBILL_CHAOS_KILL_LOOP": ",".join(kills)}


def address_of(child: Child) -> str:
    """Return the address on which a service listens."""
    return f"http://{HOST}:{child.environment['WAYBILL_PORT']}"


async def until_ready(child: Child) -> None:
    """Wait until a service is ready.

    Raises:
        TimeoutError: it is not ready in time.
    """
    async with asyncio.timeout(READY_TIMEOUT), httpx.AsyncClient(timeout=1) as http:
        while True:
            assert child.alive, f"{child.name} {child.how_it_ended()}\n{child.last_lines()}"
            try:
                if (await http.get(f"{address_of(child)}/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # It is not listening yet.
            await asyncio.sleep(0.1)

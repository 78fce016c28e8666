"""The processes of a run: how each is started, when it is ready, and how it ended."""

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
"""Seconds until a service is ready: Kafka may be away, and the machine busy with everything."""

GRACE = 3.0
"""Seconds a drained pod may use: some of the work ends in it, some is given back."""

WORKERS = 2

HEARTBEAT = 5.0
"""Seconds of silence after which a stream gives its next cursor."""

KILL_EVERY = (5.0, 0.7)
"""Seconds between two kills of the first loop, and how many more for each further one, so that they
do not die together."""

SAYS_WHY = "cannot be restarted: the pod ends"
"""What a pod writes into its log when it ends because a loop cannot be restarted."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class Children:
    """Starts the services of one installation, each life in a process of its own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._begins: dict[int, int] = {}
        """Where each process began in its log, by process id."""
        self.all: list[Child] = []

    def start(
        self, name: str, service: str, *, port: str = "", further: Mapping[str, str] = NOTHING
    ) -> Child:
        """Start a service.

        Args:
            name: of this life; its log has this name.
            port: of an earlier life; by default a free one.
            further: environment variables beside the usual ones.
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

    def said_why(self, child: Child) -> bool:
        """Whether a process wrote into its log that it ends, and why."""
        text = child.log.read_bytes()[self._begins[child.pid] :]
        return SAYS_WHY.encode() in text


def wrong_clock(skew: timedelta) -> Mapping[str, str]:
    """Environment of a service whose clock is so far ahead."""
    return clocks.environment(skew)


def killed_loops(service: str) -> Mapping[str, str]:
    """Environment of a service whose background loops are killed again and again."""
    names = [loop.name for loop in loops_of(service)]
    first, step = KILL_EVERY
    kills = [f"{name}:{first + step * number:.1f}" for number, name in enumerate(names)]
    return {"WAYBILL_CHAOS_KILL_LOOP": ",".join(kills)}


def address_of(child: Child) -> str:
    """Where a service listens."""
    return f"http://{HOST}:{child.environment['WAYBILL_PORT']}"


async def until_ready(child: Child) -> None:
    """Wait until a service says that it can serve.

    Raises:
        TimeoutError: it does not in time.
    """
    async with asyncio.timeout(READY_TIMEOUT), httpx.AsyncClient(timeout=1) as http:
        while True:
            assert child.alive, f"{child.name} {child.how_it_ended()}\n{child.last_lines()}"
            try:
                if (await http.get(f"{address_of(child)}/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # It does not listen yet.
            await asyncio.sleep(0.1)

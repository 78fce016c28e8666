"""One run: pods, observers, files; pods are restarted and connections cut; then the log judges."""

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.status.live.filter import Filter
from services.status.projection.projection import FileState
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from tests.journeys.gapless.checker import Observation, Problem, Truth, check
from tests.journeys.gapless.lives import GROUPS, OWNERS, Feed, Life, live, plan, truth_of
from tests.journeys.gapless.observers import Observer
from waybill.local.ports import HOST, free_port
from waybill.local.process import Child

START_TIMEOUT = 60.0
"""Seconds until a pod is ready, on a machine that is busy with everything else."""

HEARTBEAT = 5.0
"""Seconds of silence until an observer of few files gets its next cursor. At 500 events a second a
pod that has just started remembers some 40 seconds, and a busy machine takes half of that to start
one."""

END_TIMEOUT = 15.0
"""Seconds for a pod that was asked to end."""

SETTLING = 30.0
"""Seconds in which the last states reach everybody."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much goes on."""

    observers: int
    rate: float
    """Events a second."""
    seconds: float
    restarts: int
    patience: float
    """Seconds after which a connection is cut, on average."""


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    problems: list[Problem]
    files: int
    events: int
    states_told: int
    connections: int
    restarts: int
    seconds: float

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.files} files, {self.events} events in {self.seconds:.0f} s "
            f"({self.events / self.seconds:.0f} a second)",
            f"{self.states_told} states told over {self.connections} connections, "
            f"{self.restarts} restarts of pods",
            f"problems: {dict(Counter(each.kind for each in self.problems)) or 'none'}",
            *(f"  {each}" for each in self.problems[:20]),
        ]


class Pods:
    """Two status pods, each with a port of its own for all its lives."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._ports = [free_port() for _ in range(2)]
        self.addresses = [f"http://{HOST}:{port}" for port in self._ports]
        self._children: list[Child] = []

    async def start(self) -> None:
        """Return when both are ready."""
        self._children = [self._first_life(number) for number in range(len(self._ports))]
        await asyncio.gather(*map(self._until_ready, range(len(self._ports))))

    async def restart(self, number: int, how: signal.Signals) -> None:
        """End a pod and start it again; returns when it is ready."""
        child = self._children[number]
        os.kill(child.pid, how)
        await asyncio.to_thread(child.finish, time.monotonic() + END_TIMEOUT)
        self._children[number] = child.again()
        await self._until_ready(number)

    def stop(self) -> None:
        """End both."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            child.finish(time.monotonic() + END_TIMEOUT)

    def _first_life(self, number: int) -> Child:
        environment = {
            f"WAYBILL_{name.upper()}": str(value)
            for name, value in self._settings.model_dump(exclude_none=True).items()
        }
        return Child(
            f"status-{number}",
            [sys.executable, "-m", "services.status"],
            environment={
                **os.environ,
                **environment,
                "WAYBILL_PORT": str(self._ports[number]),
                "WAYBILL_HEARTBEAT": str(HEARTBEAT),
            },
            log=self._folder / f"status-{number}.log",
        )

    async def _until_ready(self, number: int) -> None:
        async with asyncio.timeout(START_TIMEOUT), httpx.AsyncClient() as http:
            while True:
                try:
                    answer = await http.get(f"{self.addresses[number]}/health/ready")
                    if answer.status_code == httpx.codes.OK:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)


async def run(settings: Settings, folder: Path, size: Size, *, seed: int) -> Report:
    """Carry out a run of so much; the same seed gives the same files, cuts and restarts."""
    rng = random.Random(seed)
    await create_topics(settings)
    pods = Pods(settings, folder)
    lives = plan(rng, events=int(size.rate * size.seconds))
    observers = [
        _observer(number, lives, pods.addresses, size, random.Random(rng.random()))
        for number in range(size.observers)
    ]
    feed = Feed()
    try:
        await pods.start()
        late = [each for each in observers if not each.observation.from_the_start]
        early = [each for each in observers if each.observation.from_the_start]
        async with asyncio.TaskGroup() as group:
            observing = [group.create_task(each.run()) for each in early]
            await asyncio.gather(*(each.opened.wait() for each in early))
            begun = time.monotonic()
            restarting = group.create_task(_restart(pods, size, rng))
            living = group.create_task(live(settings, lives, rate=size.rate, feed=feed))
            await asyncio.sleep(size.seconds / 3)
            observing += [group.create_task(each.run()) for each in late]
            await living
            seconds = time.monotonic() - begun
            await restarting
            truth = await truth_of(settings, feed)
            problems = await _settled(truth, [each.observation for each in observers])
            for task in observing:
                task.cancel()
    finally:
        await asyncio.to_thread(pods.stop)
    return Report(
        problems=problems,
        files=len(lives),
        events=feed.events,
        states_told=sum(len(each.observation.seen) for each in observers),
        connections=sum(each.connections for each in observers),
        restarts=size.restarts,
        seconds=seconds,
    )


def _observer(
    number: int, lives: Sequence[Life], addresses: Sequence[str], size: Size, rng: random.Random
) -> Observer:
    """The filters in turn; few follow everything, as each of those is told all there is."""
    group = rng.randrange(GROUPS)
    some = rng.sample(lives, min(10, len(lives)))
    filters = [
        Filter(ids=frozenset(life.file_id for life in some)),
        Filter(label=f"group:{group}"),
        Filter(batch_id=f"batch-{group}"),
        Filter(owner=f"owner-{rng.randrange(OWNERS)}"),
        Filter(batch_id=f"batch-{group}", status=rng.choice((FileState.PENDING, FileState.FAILED))),
    ]
    wanted = Filter() if number % 250 == 0 else filters[number % len(filters)]
    over = ("sse", "ws")[number // len(filters) % 2]
    observation = Observation(
        f"{number} over {over}", wanted, from_the_start=number % 10 != 1 or wanted == Filter()
    )
    return Observer(observation, over=over, addresses=addresses, rng=rng, patience=size.patience)


async def _restart(pods: Pods, size: Size, rng: random.Random) -> None:
    """Kill one pod, ask the next one to end, and so on, one at a time."""
    for number in range(size.restarts):
        await asyncio.sleep(size.seconds / (size.restarts + 1) * rng.uniform(0.3, 0.7))
        await pods.restart(number % 2, (signal.SIGKILL, signal.SIGTERM)[number % 2])


async def _settled(truth: Truth, observations: Sequence[Observation]) -> list[Problem]:
    """The problems that remain when everybody had the time to hear the last word."""
    deadline = time.monotonic() + SETTLING
    while (problems := check(truth, observations)) and time.monotonic() < deadline:
        await asyncio.sleep(5)  # A look takes seconds, in which nobody reads.
    return problems

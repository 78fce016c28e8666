"""Measure the cost of push to a thousand connections, beside other servers, and of idle ones.

All servers send ten messages of the same size per second. A peer generates its messages. Waybill
reads events from Kafka, folds them and stores them in MongoDB. The cost of its status service
without connections is measured as well, and subtracted in a separate row.
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import psutil

from benchmarks.go import built
from benchmarks.harness import PATIENCE, report, usage, wait_until_quiet
from shared.events.events import (
    FileProcessing,
    FileProgressed,
    ProcessingData,
    ProgressedData,
    new_file_id,
)
from shared.events.facts import Progress
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.stack import RunningStack

RATE = 10.0
"""Messages per second to every connection. The most expensive peer fills most of a core."""

PADDING = 460
"""Bytes of padding that make a peer's message as long as a status document of Waybill."""

CAUSELESS = 2.0
"""Seconds until a pod stops waiting for the upload of a file that has none."""

WARM_UP = 2.0
"""Seconds to wait after all connections are open."""

MODULES = {
    "floor": "benchmarks.push_peers.floor",
    "sse-starlette": "benchmarks.push_peers.sse_starlette_app",
    "python-socketio": "benchmarks.push_peers.socketio_app",
}
CENTRIFUGE = Path(__file__).parent / "push_peers" / "centrifuge"
BUILT = Path(".waybill/benchmarks/centrifuge").absolute()
OURS = ("Waybill SSE", "Waybill WebSocket")
SOURCE = "/benchmark"


async def begin_file(publisher: Publisher) -> str:
    """Publish the start of a file's processing, and return its id.

    There is no upload event, because the processor would process the file.
    """
    file_id = new_file_id()
    start = ProcessingData(run=1, attempt=1, max_attempts=3, pod="benchmark")
    await publisher.publish(FileProcessing.of(file_id, start, source=SOURCE))
    return file_id


def progress(file_id: str, done: int) -> FileProgressed:
    """Return a progress event of a file."""
    data = ProgressedData(
        run=1,
        attempt=1,
        max_attempts=3,
        seq=done,
        phase="working",
        progress=Progress(done=done, total=1_000_000),
    )
    return FileProgressed.of(file_id, data, source=SOURCE)


class Crowd:
    """Connections in a separate process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def gathered(cls, kind: str, port: int, count: int) -> AsyncIterator["Crowd"]:
        """Open so many connections to a server during the `with` block."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.push_peers.crowd", kind, str(port), str(count)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            crowd = cls(process)
            await crowd._answer()
            yield crowd
        finally:
            process.kill()
            await process.wait()

    async def count(self, seconds: float) -> tuple[int, int]:
        """Return the messages received in so many seconds, and the connections lost so far."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(f"{seconds}\n".encode())
        received, lost = (await self._answer()).split()
        return int(received), int(lost)

    async def _answer(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stdout.readline()).decode()


async def compare_cost(stack: RunningStack, connections: int, seconds: float, rounds: int) -> None:
    """Print the cost of one delivery for each server, the median of several rounds in turn."""
    _raise_limit()
    kinds = [*MODULES, *(["centrifuge"] if built(CENTRIFUGE, BUILT) else []), *OURS]
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    alone: list[float] = []
    for _ in range(rounds):
        for kind in kinds:
            wait_until_quiet()
            if kind in OURS:
                taken[kind].append(await _cost_of_waybill(stack, kind, connections, seconds))
            else:
                taken[kind].append(await _cost_of_peer(kind, connections, seconds))
        alone.append(await _cost_of_waybill(stack, None, connections, seconds))
    taken |= {
        f"{kind}, fan-out alone": [
            all_ - base for all_, base in zip(taken[kind], alone, strict=True)
        ]
        for kind in OURS
    }
    floor = median(taken["floor"])
    rows = [
        [kind, median(costs), min(costs), max(costs), median(costs) / floor]
        for kind, costs in taken.items()
    ]
    header = ["server", "µs a delivery", "lowest", "highest", "of floor"]
    report("push cost", header, rows)


async def _cost_of_peer(kind: str, connections: int, seconds: float) -> float:
    command = [sys.executable, "-m", MODULES[kind]] if kind in MODULES else [str(BUILT)]
    server = await asyncio.create_subprocess_exec(
        *command, str(RATE), str(PADDING), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None  # noqa: S101 - it is a pipe
        port = int((await server.stdout.readline()).split()[1])
        async with Crowd.gathered(kind, port, connections) as crowd:
            return await _measured(crowd, server.pid, seconds)
    finally:
        server.kill()
        await server.wait()


async def _cost_of_waybill(
    stack: RunningStack, kind: str | None, connections: int, seconds: float
) -> float:
    """Return the microseconds per delivery; without `kind`, of the work without connections."""
    pid, port = stack.pids["status"], int(stack.status_url.rsplit(":", 1)[1])
    async with Publisher(
        Settings(kafka=stack.description["kafka"]), client_id="benchmark"
    ) as publisher:
        file_id = await begin_file(publisher)
        await asyncio.sleep(CAUSELESS)
        publishing = asyncio.create_task(_publish_progress(publisher, file_id))
        try:
            if kind is None:
                await asyncio.sleep(WARM_UP)
                before = usage(pid).cpu
                await asyncio.sleep(seconds)
                return (usage(pid).cpu - before) / (RATE * connections * seconds) * 1e6
            async with Crowd.gathered(kind, port, connections) as crowd:
                return await _measured(crowd, pid, seconds)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)


async def _publish_progress(publisher: Publisher, file_id: str) -> None:
    for done in range(1, 1_000_000):
        await asyncio.gather(publisher.publish(progress(file_id, done)), asyncio.sleep(1 / RATE))


async def _measured(crowd: Crowd, pid: int, seconds: float) -> float:
    """Return the microseconds of processor time for a delivery."""
    await crowd.count(WARM_UP)
    before = usage(pid).cpu
    received, _ = await crowd.count(seconds)
    return (usage(pid).cpu - before) / received * 1e6


async def hold_idle(stack: RunningStack, count: int) -> None:
    """Print the memory of connections without messages, and how many are lost."""
    _raise_limit()
    pid, port = stack.pids["status"], int(stack.status_url.rsplit(":", 1)[1])
    rows = []
    for kind in OURS:
        before = psutil.Process(pid).memory_info().rss
        async with Crowd.gathered(kind, port, count) as crowd:
            _, lost = await crowd.count(20.0)
            each = (psutil.Process(pid).memory_info().rss - before) / count / 1000
        rows.append([kind, count, lost, each])
        await asyncio.sleep(WARM_UP)
    report("push idle", ["over", "connections", "lost in 20 s", "kB each"], rows)


def _raise_limit() -> None:
    """Raise the limit on descriptors, here and in child processes: each connection needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

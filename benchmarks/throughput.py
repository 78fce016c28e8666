"""How fast do files that need no work pass through, from Kafka to `completed` in MongoDB?

And how long does one file alone take, from the 202 to the pushed `completed`? With the processor
time that each process spends on 1,000 files.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import websockets
from pymongo import MongoClient

from benchmarks.harness import Usage, percentile, report, usage_of_stack
from shared.blobs import source_key
from shared.events import FileUploaded, UploadedData, new_file_id
from shared.messaging import DirectPublisher
from shared.settings import DEMO_TYPE, Settings
from tests.support.stack import RunningStack

NO_WORK = b"{}"
"""A demo file that takes no time."""

POLL = 0.05
"""Seconds between two looks at MongoDB: fine beside the seconds measured, and little load."""

PATIENCE = 300.0
"""Seconds after which a run is given up."""


class Installation:
    """A running stack, seen from outside."""

    def __init__(self, stack: RunningStack) -> None:
        described = stack.description
        self.pids: dict[str, Any] = described["pids"]
        self.upload_url = str(described["upload_url"])
        self.status_url = str(described["status_url"])
        self.settings = Settings(
            kafka=described["kafka"], mongodb=described["mongodb"], blobs=described["blobs"]
        )
        self._files: Any = MongoClient(self.settings.mongodb)[self.settings.database]["files"]

    def completed(self) -> int:
        """How many files MongoDB shows as completed."""
        count: int = self._files.count_documents({"status": "completed"})
        return count

    def store_sources(self, count: int) -> list[str]:
        """Put so many files into the blob store; returns their ids."""
        ids = [new_file_id() for _ in range(count)]
        for file_id in ids:
            path = Path(self.settings.blobs) / source_key(file_id)
            path.parent.mkdir(parents=True)
            path.write_bytes(NO_WORK)
        return ids

    async def publish(self, file_ids: Sequence[str]) -> None:
        """Tell Kafka that these files came in."""
        publisher = DirectPublisher(self.settings, client_id="benchmark")
        await publisher.start()
        events = (
            FileUploaded.of(
                file_id,
                UploadedData(
                    blob=source_key(file_id),
                    content_type=DEMO_TYPE,
                    size=len(NO_WORK),
                    sha256="0" * 64,
                    name="noop.json",
                ),
                source="/benchmark",
            )
            for file_id in file_ids
        )
        await asyncio.gather(*(publisher.publish(event) for event in events))
        await publisher.stop()


async def pass_through(installation: Installation, count: int) -> tuple[float, dict[str, Usage]]:
    """Have so many files processed; returns the seconds and what each process used.

    Raises:
        TimeoutError: they were not completed in time.
    """
    ids = installation.store_sources(count)
    goal = installation.completed() + count
    before = usage_of_stack(installation.pids)
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        await installation.publish(ids)
        while installation.completed() < goal:
            await asyncio.sleep(POLL)
    seconds = time.monotonic() - begun
    after = usage_of_stack(installation.pids)
    used = {name: Usage(after[name].cpu - before[name].cpu, after[name].rss) for name in after}
    return seconds, used


async def one_at_a_time(installation: Installation, count: int) -> list[float]:
    """Seconds from each file's 202 to its `completed` on a WebSocket."""
    socket_url = installation.status_url.replace("http", "ws", 1) + "/api/ws"
    took: list[float] = []
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        websockets.connect(socket_url, compression=None) as socket,
    ):
        await socket.send('{"type": "subscribe"}')
        await socket.recv()
        for _ in range(count):
            answer = await http.post(
                f"{installation.upload_url}/api/files/upload",
                content=NO_WORK,
                headers={"Content-Type": DEMO_TYPE},
            )
            accepted = time.monotonic()
            file_id = answer.raise_for_status().json()["file_id"]
            async with asyncio.timeout(30):
                while not _is_completed(await socket.recv(), file_id):
                    pass
            took.append(time.monotonic() - accepted)
    return took


def _is_completed(message: str | bytes, file_id: str) -> bool:
    status = json.loads(message)["status"]
    return bool(status["file_id"] == file_id and status["status"] == "completed")


async def measure(installation: Installation, *, files: int, rounds: int, alone: int) -> None:
    """Print the report of one running stack."""
    await pass_through(installation, 200)  # warm
    await one_at_a_time(installation, 20)
    latencies = await one_at_a_time(installation, alone)
    runs = [await pass_through(installation, files) for _ in range(rounds)]
    seconds, used = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    rows: list[list[Any]] = [
        ["files/s, median run", files / seconds],
        ["files/s, each run", ", ".join(f"{files / run[0]:.0f}" for run in runs)],
        ["one alone, p50 ms", percentile(latencies, 0.5) * 1000],
        ["one alone, p99 ms", percentile(latencies, 0.99) * 1000],
    ]
    for name, each in used.items():
        rows.append([f"{name}: CPU s per 1,000 files", each.cpu / files * 1000])
        rows.append([f"{name}: memory MiB", each.rss / 2**20])
    report("throughput", ["what", "value"], rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000, help="files of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=int, default=200, help="files that pass one at a time")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        stack = RunningStack.start(Path(name), WAYBILL_WORKERS=str(asked.workers))
        try:
            asyncio.run(
                measure(
                    Installation(stack), files=asked.files, rounds=asked.rounds, alone=asked.alone
                )
            )
        finally:
            stack.stop()


if __name__ == "__main__":
    main()

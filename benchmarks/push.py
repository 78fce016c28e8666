"""Measure the latency of push, and its cost for a thousand connections.

The floor of the latency is a plain consumer of the same topic in the same run. All times begin when
the producer receives the event. The floor of the cost is an asyncio protocol that writes the same
bytes to every connection; see `push_cost.py`.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import websockets

from benchmarks.harness import percentile, report
from benchmarks.push_cost import (
    CAUSELESS,
    begin_file,
    compare_cost,
    hold_idle,
    progress,
)
from shared.events.topics import PROGRESS
from shared.kafka.log import open_log
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.support.stack import RunningStack

FILES = 10
"""Files with events, in turn."""

LAST_WORD = 3.0
"""Seconds to wait for the last event. A later event counts as a gap."""

Seen = dict[tuple[str, int], float]
"""Monotonic seconds at which the n-th event of a file was received."""


async def over_websocket(url: str) -> AsyncIterator[dict[str, Any]]:
    """Yield every status from a WebSocket."""
    address = url.replace("http", "ws", 1) + "/api/ws"
    async with websockets.connect(address, compression=None) as socket:
        await socket.send('{"type": "subscribe"}')
        async for message in socket:
            update = json.loads(message)
            if update["type"] == "status":
                yield update["status"]


async def over_sse(url: str) -> AsyncIterator[dict[str, Any]]:
    """Yield every status from an SSE stream."""
    async with (
        httpx.AsyncClient(timeout=None, trust_env=False) as http,  # noqa: S113 - cancelled at the end
        http.stream("GET", f"{url}/api/stream") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith('data: {"file_id"'):
                yield json.loads(line.removeprefix("data: "))


async def from_kafka(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """Yield the events themselves, without Waybill."""
    async with open_log(settings, [PROGRESS], client_id="floor") as (consumer, partitions):
        await consumer.seek_to_end(*partitions)
        async for record in consumer:
            event = json.loads(record.value)
            yield {"file_id": event["subject"], "progress": event["data"]["progress"]}


async def watch(statuses: AsyncIterator[dict[str, Any]], seen: Seen) -> None:
    """Record when each event is received, until cancelled."""
    async for status in statuses:
        if status["progress"]:
            seen[status["file_id"], status["progress"]["done"]] = time.monotonic()


async def publish(settings: Settings, *, rate: float, seconds: float) -> Seen:
    """Publish progress at a steady rate, and return when each event was published."""
    sent: Seen = {}
    async with Publisher(settings, client_id="benchmark") as publisher:
        ids = [await begin_file(publisher) for _ in range(FILES)]
        await asyncio.sleep(CAUSELESS)
        async with asyncio.TaskGroup() as sending:
            begun = time.monotonic()
            for number in range(int(rate * seconds)):
                await asyncio.sleep(begun + number / rate - time.monotonic())
                file_id, done = ids[number % FILES], 1 + number // FILES
                sent[file_id, done] = time.monotonic()
                sending.create_task(publisher.publish(progress(file_id, done)))
    return sent


async def measure(stack: RunningStack, *, rate: float, seconds: float) -> None:
    """Print the latencies of a running stack."""
    settings = Settings(kafka=stack.description["kafka"])
    clients: dict[str, Callable[[], AsyncIterator[dict[str, Any]]]] = {
        "plain consumer": lambda: from_kafka(settings),
        "WebSocket": lambda: over_websocket(stack.status_url),
        "SSE": lambda: over_sse(stack.status_url),
    }
    seen: dict[str, Seen] = {name: {} for name in clients}
    watching = [asyncio.create_task(watch(open_(), seen[name])) for name, open_ in clients.items()]
    await asyncio.sleep(2)  # until all are connected
    await publish(settings, rate=rate, seconds=1)  # warm
    sent = await publish(settings, rate=rate, seconds=seconds)
    await asyncio.sleep(LAST_WORD)
    for task in watching:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    rows = []
    for name in clients:
        took = [(seen[name][key] - sent[key]) * 1000 for key in sent if key in seen[name]]
        gaps = len(sent) - len(took)
        rows.append([name, len(sent), gaps, percentile(took, 0.5), percentile(took, 0.99)])
    report("push latency", ["client", "events", "gaps", "p50 ms", "p99 ms"], rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second, for latency")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=5000, help="connections without messages")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    limits = {"WAYBILL_MAX_SUBSCRIBERS_PER_CLIENT": "20000", "WAYBILL_MAX_SUBSCRIBERS": "20000"}
    with tempfile.TemporaryDirectory() as name:
        stack = RunningStack.start(Path(name), **limits)
        try:
            asyncio.run(measure(stack, rate=asked.rate, seconds=asked.seconds))
            asyncio.run(compare_cost(stack, asked.connections, asked.seconds / 2, asked.rounds))
            asyncio.run(hold_idle(stack, asked.idle))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()

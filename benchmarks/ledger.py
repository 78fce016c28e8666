"""Compare the cost of recording an attempt in the offset commit and in the blob store.

Both ways write before the work begins, so that no attempt ends unnoticed. One commit records all
attempts that begin together, on any number of partitions. The blob store needs one new object per
attempt, and another write at its end.
"""

import argparse
import asyncio
import resource
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import obstore
from aiokafka import AIOKafkaConsumer, TopicPartition
from obstore.store import LocalStore

from benchmarks.harness import percentile, report
from services.processor.offsets import PartitionWindow
from shared.blobs.blobs import open_blob_store
from shared.events.topics import UPLOADED
from shared.kafka.messaging import create_topics, topic_names
from shared.settings import Settings
from waybill.local.parts import running_parts

TOGETHER = (1, 16, 64)
"""Numbers of attempts that begin together: one alone, and as many as a busy pod begins ahead."""

RECORD = b'{"run":1,"attempt":1,"pod":"pod-a"}'


async def timed(act: Callable[[], Awaitable[None]], rounds: int) -> tuple[list[float], float]:
    """Return the seconds of each round, and the processor time of all rounds."""
    took: list[float] = []
    usage = resource.getrusage(resource.RUSAGE_SELF)
    before = usage.ru_utime + usage.ru_stime
    for _ in range(rounds):
        begun = time.monotonic()
        await act()
        took.append(time.monotonic() - begun)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return took, usage.ru_utime + usage.ru_stime - before


class OnTheCommit:
    """Begins and finishes attempts like the processor."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, together: int) -> None:
        self._consumer = consumer
        self._together = together
        self._windows = {
            TopicPartition(topic, number): PartitionWindow(next=0)
            for number in range(UPLOADED.partitions)
        }

    async def act(self) -> None:
        """Commit the start of so many attempts and the end of those of the previous round."""
        changed = {}
        for number, (partition, window) in enumerate(self._windows.items()):
            for offset in list(window.in_flight):
                window.finish(offset)
            for _ in range(number, self._together, len(self._windows)):
                window.accept(window.next)
                window.begin(window.next - 1)
            changed[partition] = (window.watermark, window.ledger())
        await self._consumer.commit(changed)


async def on_the_commit(settings: Settings, rounds: int) -> list[list[object]]:
    """Return the rows for the offset commit, which the processor uses."""
    await create_topics(settings)
    (topic,) = topic_names(settings, [UPLOADED])
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=settings.kafka, group_id="ledger", enable_auto_commit=False
    )
    await consumer.start()
    rows = []
    for together in TOGETHER:
        act = OnTheCommit(consumer, topic, together).act
        await timed(act, rounds // 10)  # warm
        rows.append(row("offset commit", together, await timed(act, rounds)))
    await consumer.stop()
    return rows


async def in_the_blob_store(folder: Path, rounds: int, *, fsync: bool) -> list[list[object]]:
    """Return the rows for a blob store in a directory."""
    store = LocalStore(folder, mkdir=True)
    durable = open_blob_store(Settings(blobs=str(folder), blobs_fsync=fsync))

    async def attempt() -> None:
        key = f"attempts/{uuid.uuid4()}/1.1"
        await obstore.put_async(store, key, RECORD, mode="create")
        if fsync:
            await durable._make_durable(key)  # noqa: SLF001 - as `put` does
        await obstore.put_async(store, f"{key}.ended", b"")

    async def act() -> None:
        await asyncio.gather(*(attempt() for _ in range(together)))

    rows = []
    for together in TOGETHER:
        rounds_here = max(5, rounds // together)
        name = "blob store, fsync" if fsync else "blob store"
        rows.append(row(name, together, await timed(act, rounds_here)))
    return rows


def row(way: str, together: int, measured: tuple[list[float], float]) -> list[object]:
    """Return one row of the report."""
    took, cpu = measured
    attempts = together * len(took)
    return [
        way,
        together,
        percentile(took, 0.5) * 1000,
        percentile(took, 0.99) * 1000,
        attempts / sum(took),
        cpu / attempts * 1e6,
    ]


async def measure(settings: Settings, folder: Path, rounds: int) -> None:
    """Print the report."""
    rows = await on_the_commit(settings, rounds)
    rows += await in_the_blob_store(folder / "fast", rounds, fsync=False)
    rows += await in_the_blob_store(folder / "durable", rounds, fsync=True)
    header = ["way", "begun together", "p50 ms", "p99 ms", "attempts/s", "CPU µs an attempt"]
    report("ledger", header, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_parts(Path(name)) as parts:
        asyncio.run(measure(Settings(kafka=parts.kafka), Path(name), asked.rounds))


if __name__ == "__main__":
    main()

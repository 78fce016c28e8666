"""Measure a replay of the log: its rate and memory, beside plain reads and writes.

A replay reads every event and writes every file's document. The floors use as many processes in the
same run: a plain consumer that discards records, and bulk writes of ready documents. They write one
document per event, as without a fold, or one per file, the minimum of a replay. The time of a floor
begins when its processes have their documents. The time of the replay includes the start of its
second process.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psutil
from pymongo import InsertOne, MongoClient, UpdateOne
from pymongo.collection import Collection

from benchmarks.harness import PATIENCE, report
from services.status.replay.forked_pool import forked_pool
from services.status.replay.offset_ranges import OffsetRange, whole_log
from services.status.replay.rebuild import rebuild
from services.status.replay.replay import SHADOW
from services.status.settings import StatusSettings
from shared.events.events import (
    CompletedData,
    FileCompleted,
    FileProcessing,
    FileUploaded,
    ProcessingData,
    UploadedData,
    new_file_id,
)
from shared.events.facts import Result
from shared.http.serving import collect_rarely
from shared.kafka.log import open_partitions
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from waybill.local.parts import running_parts

OF_A_FILE = 3
"""Events per file: uploaded, processing, completed."""

BULK = 1_000
"""Operations of one bulk write, about as many as a block of the log has events."""


async def fill(settings: StatusSettings, files: int) -> None:
    """Publish all events of so many files."""
    await create_topics(settings)
    async with Publisher(settings, client_id="benchmark") as publisher:
        for _ in range(files):
            await _publish_events(publisher, new_file_id())


async def _publish_events(publisher: Publisher, file_id: str) -> None:
    counts = {"run": 1, "attempt": 1, "max_attempts": 3}
    uploaded = UploadedData(
        blob=f"files/{file_id}/source",
        content_type="application/pdf",
        size=12345,
        sha256="0" * 64,
        name="report.pdf",
    )
    processing = ProcessingData(**counts, pod="processor-1")
    completed = CompletedData(**counts, result=Result(prefix="p", artifacts=(), statistics={}))
    source = "/benchmark"
    await publisher.post(FileUploaded.of(file_id, uploaded, source=source))
    await publisher.post(FileProcessing.of(file_id, processing, source=source))
    await publisher.post(FileCompleted.of(file_id, completed, source=source))


Act = Callable[[], None]


def reading(settings: StatusSettings, offset_ranges: list[OffsetRange]) -> Act:
    """Return the floor of reading: consume records and discard them."""
    return lambda: asyncio.run(_consume(settings, offset_ranges))


async def _consume(settings: StatusSettings, offset_ranges: list[OffsetRange]) -> None:
    left = sum(map(len, offset_ranges))
    partitions = [each.partition for each in offset_ranges]
    async with open_partitions(settings, partitions, client_id="floor", wait_ms=500) as consumer:
        for each in offset_ranges:
            consumer.seek(each.partition, each.begin)
        while left > 0:
            batches = await consumer.getmany(timeout_ms=200)
            left -= sum(map(len, batches.values()))


def inserting(settings: StatusSettings, name: str, job: int, jobs: int) -> Act:
    """Return the floor of writing: insert each document once into a new collection."""
    operations = [InsertOne(each) for each in _documents(settings, job, jobs)]
    return lambda: _write(settings, name, operations)


def upserting(settings: StatusSettings, name: str, job: int, jobs: int) -> Act:
    """Return the cost of one write per event: an upsert for each."""
    operations = []
    for document in _documents(settings, job, jobs):
        which = {"_id": document.pop("_id")}
        operations += [UpdateOne(which, {"$set": document}, upsert=True)] * OF_A_FILE
    return lambda: _write(settings, name, operations)


def _documents(settings: StatusSettings, job: int, jobs: int) -> list[dict[str, Any]]:
    with _shadow(settings) as folded:
        return list(islice(folded.find(), job, None, jobs))


def _write(
    settings: StatusSettings,
    name: str,
    operations: list[InsertOne[dict[str, Any]]] | list[UpdateOne],
) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb, journal=True)
    collection = client[settings.database][name]
    for begin in range(0, len(operations), BULK):
        collection.bulk_write(operations[begin : begin + BULK], ordered=False)
    client.close()


def in_processes(prepare: Callable[..., Act], shares: list[tuple[Any, ...]]) -> float:
    """Return the seconds from the end of preparation until all processes are done."""
    context = multiprocessing.get_context("forkserver")
    gate = context.Barrier(len(shares) + 1, timeout=PATIENCE)
    processes = [
        context.Process(target=_in_process, args=(gate, prepare, share)) for share in shares
    ]
    for process in processes:
        process.start()
    gate.wait()
    begun = time.monotonic()
    gate.wait()
    seconds = time.monotonic() - begun
    for process in processes:
        process.join()
    return seconds


def _in_process(gate: Barrier, prepare: Callable[..., Act], share: tuple[Any, ...]) -> None:
    act = prepare(*share)
    collect_rarely()
    gate.wait()
    act()
    gate.wait()


def fold(settings: StatusSettings, jobs: int) -> float:
    """Return the seconds that a replay takes to fold the log."""
    collect_rarely()
    begun = time.monotonic()
    with forked_pool(jobs) as beside:
        asyncio.run(rebuild(settings, SHADOW, pool=beside, restart=True))
    return time.monotonic() - begun


def fold_alone(settings: StatusSettings, jobs: int) -> tuple[float, float]:
    """Fold in a fresh process, and return the seconds and the peak memory in MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        with peak(fresh.submit(os.getpid).result()) as memory:
            seconds = fresh.submit(fold, settings, jobs).result()
        return seconds, memory[0]


@contextmanager
def peak(pid: int) -> Iterator[list[float]]:
    """Yield a list whose only element is the peak memory of a process and its children, in MiB.

    Shared pages count in proportion.
    """
    most, done = [0.0], threading.Event()
    first = psutil.Process(pid)

    def watch() -> None:
        while not done.wait(0.1):
            total = 0
            for each in (first, *first.children(recursive=True)):
                with suppress(psutil.Error):
                    total += each.memory_full_info().pss
            most[0] = max(most[0], total / 2**20)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        done.set()
        watching.join()


def measure(settings: StatusSettings, files: int, *, jobs: int, rounds: int) -> list[Any]:
    """Return the row for a log of so many files: the medians of several rounds in turn."""
    asyncio.run(fill(settings, files))
    whole = asyncio.run(whole_log(settings))
    events = sum(map(len, whole))
    numbers = sorted({each.number for each in whole})
    shares = [
        (settings, [each for each in whole if each.number in numbers[job::jobs]])
        for job in range(jobs)
    ]
    rates, memory = [], 0.0
    for turn in range(rounds):
        read = events / in_processes(reading, shares)
        seconds, most = fold_alone(settings, jobs)
        folded, memory = events / seconds, max(memory, most)
        with _shadow(settings) as documents:
            # A fold that lost some would be fast.
            assert documents.count_documents({}) == files  # noqa: S101
        upserted, inserted = (
            events / in_processes(act, _parts(settings, f"{act.__name__}_{turn}", jobs))
            for act in (upserting, inserting)
        )
        ratios = (folded / min(read, each) for each in (upserted, inserted))
        rates.append((folded, read, upserted, inserted, *ratios))
    return [events, *map(statistics.median, zip(*rates, strict=True)), memory]


def _parts(settings: StatusSettings, name: str, jobs: int) -> list[tuple[Any, ...]]:
    """Return the share of each process in the writes of a collection."""
    return [(settings, name, job, jobs) for job in range(jobs)]


@contextmanager
def _shadow(settings: StatusSettings) -> Iterator[Collection[dict[str, Any]]]:
    """Yield the collection with the result of the fold."""
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb)
    try:
        yield client[settings.database][SHADOW]
    finally:
        client.close()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, nargs="*", default=[10_000, 100_000], help="sizes of the log"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name, running_parts(Path(name)) as parts:
        for events in asked.events:
            settings = StatusSettings(
                kafka=parts.kafka,
                mongodb=parts.mongodb,
                topic_prefix=f"of{events}.",
                database=f"of{events}",
            )
            files = events // OF_A_FILE
            rows.append(measure(settings, files, jobs=asked.jobs, rounds=asked.rounds))
    floors = ["read/s", "upserted/s", "inserted/s", "of upserts", "of inserts"]
    header = ["events", "folded/s", *floors, "MiB"]
    report("replay", header, rows)


if __name__ == "__main__":
    main()

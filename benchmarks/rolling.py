"""Measure how long a deploy delays files: three pods restart one after another under load.

Files of 50 ms arrive at a steady rate, a third of the capacity of the pods. The benchmark measures
the time from a file's event to its outcome: first at rest, then while each pod is ended by SIGTERM
and started again.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import report
from benchmarks.installation import uploaded
from shared.events.events import FileCompleted, FileProcessing, new_file_id
from shared.events.topics import LIFECYCLE
from shared.kafka.messaging import create_topics
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.chaos.evidence import Logged, read_topic
from tests.chaos.faults import Fault, Kind
from tests.chaos.pods import Pods
from waybill.local.parts import running_parts

PODS = 3
RATE = 40
"""Files per second. Three pods of two workers can process 120."""

BLOB = "benchmark/source"
CONTENT = b'{"seconds": 0.05}'

QUIET = 10.0
"""Seconds at rest, for comparison."""

SETTLE = 3.0
"""Seconds to wait after a pod is ready again, like an orchestrator before the next pod."""


class Feed:
    """Files that arrive at a steady rate."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.born: dict[str, float] = {}

    async def run(self) -> None:
        """Publish uploads until cancelled."""
        clock = asyncio.get_running_loop().time
        due = clock()
        async with asyncio.TaskGroup() as group:
            while True:
                due += 1 / RATE
                await asyncio.sleep(max(0.0, due - clock()))
                event = uploaded(new_file_id(), BLOB, CONTENT)
                self.born[event.file_id] = event.time.timestamp()
                group.create_task(self._publisher.publish(event))


async def measure(settings: Settings, folder: Path) -> None:
    """Print one row for the time at rest and one for the restarts."""
    await create_topics(settings)
    pods = Pods(settings, folder)
    async with Publisher(settings, client_id="benchmark") as publisher:
        feed = Feed(publisher)
        try:
            await pods.start(PODS)
            feeding = asyncio.create_task(feed.run())
            await asyncio.sleep(SETTLE)
            begun = len(feed.born)
            await asyncio.sleep(QUIET)
            at_rest = [*feed.born][begun:]
            restarts = asyncio.get_running_loop().time()
            for slot in range(PODS):
                await pods.inject(Fault(0, Kind.DRAIN, slot))
                await asyncio.sleep(SETTLE)
            took = asyncio.get_running_loop().time() - restarts
            restarted = [*feed.born][begun + len(at_rest) :]
            feeding.cancel()
            await asyncio.wait({feeding})
            log = await _all_done(settings, len(feed.born))
        finally:
            await asyncio.to_thread(pods.stop)
    ended = {
        each.event.file_id: each.event.time.timestamp()
        for each in reversed(log)
        if isinstance(each.event, FileCompleted)
    }
    attempts = Counter(each.event.file_id for each in log if isinstance(each.event, FileProcessing))
    rows = []
    for name, seconds, files in (("at rest", QUIET, at_rest), ("restarting", took, restarted)):
        waits = sorted(ended[each] - feed.born[each] for each in files)
        again = sum(attempts[each] - 1 for each in files)
        rows.append([name, seconds, len(waits), *_milliseconds(waits), again])
    report(
        "rolling restart",
        ["", "seconds", "files", "p50 ms", "p99 ms", "max ms", "attempts made again"],
        rows,
    )


def _milliseconds(waits: list[float]) -> list[float]:
    return [1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99, 1.0)]


async def _all_done(settings: Settings, count: int) -> list[Logged]:
    async with asyncio.timeout(60):
        while True:
            log = await read_topic(settings, LIFECYCLE)
            done = {each.event.file_id for each in log if isinstance(each.event, FileCompleted)}
            if len(done) >= count:
                return log
            await asyncio.sleep(1)


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="rolling") as name:
        folder = Path(name)
        with running_parts(folder) as parts:
            settings = Settings(
                kafka=parts.kafka, mongodb=parts.mongodb, blobs=str(folder / "blobs"), demo=True
            )
            source = folder / "blobs" / BLOB
            source.parent.mkdir(parents=True)
            source.write_bytes(CONTENT)
            asyncio.run(measure(settings, folder))


if __name__ == "__main__":
    main()

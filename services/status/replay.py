"""Rebuild MongoDB from the log: `python -m services.status.replay`, or `waybill replay`.

The log is folded, by the projector's own code, into a shadow collection; that is compared with the
live one, file by file and field by field, and then takes its place in one step. The live projector
may run all the while: what it wrote between the last look at the log and the swap is folded once
more afterwards, which is harmless for what is already there.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.status.projection import differing_fields
from services.status.projector import MAX_BATCH, Projector
from services.status.settings import StatusSettings
from services.status.store import FileStore
from shared.errors import WaybillError
from shared.log import open_log
from shared.messaging import create_topics
from shared.settings import Settings
from shared.telemetry import configure_logging
from shared.topics import EVENT_TOPICS

SHADOW = "files_replay"

SETTLING_DELAY = 1.0
"""Seconds until files that differ are looked at again: under load the live projector and the
replay stand at different places of the log for a moment. What differs in the same way twice has
drifted."""

MAX_REPORTED = 20
"""Differing files that are printed one by one."""


@dataclass
class Drift:
    """How the live collection differs from a fresh fold of the log."""

    compared: int = 0
    missing: list[str] = field(default_factory=list)
    """In the log, and not in the live collection."""
    unexplained: list[str] = field(default_factory=list)
    """In the live collection, and not in the log."""
    different: dict[str, list[str]] = field(default_factory=dict)
    """The fields that differ, by file."""

    @property
    def files(self) -> set[str]:
        return {*self.missing, *self.unexplained, *self.different}

    def lines(self) -> list[str]:
        """The report, for people."""
        if not self.files:
            return [f"{self.compared} files compared: equal, field by field"]
        named = [
            *(f"  {each}: missing from the live collection" for each in self.missing),
            *(f"  {each}: live, but not in the log" for each in self.unexplained),
            *(f"  {each}: differs in {', '.join(of)}" for each, of in self.different.items()),
        ]
        more = len(named) - MAX_REPORTED
        return [
            f"{self.compared} files compared: {len(self.files)} differ",
            *named[:MAX_REPORTED],
            *([f"  … and {more} more"] if more > 0 else []),
        ]


class LogReader:
    """Reads the event topics from their beginning, without a group, as far as one wants."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self.records = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["LogReader"]:
        """A reader that stands at the beginning of the log."""
        async with open_log(settings, EVENT_TOPICS, client_id="replay") as (consumer, partitions):
            await consumer.seek_to_beginning(*partitions)
            yield cls(consumer, partitions)

    async def read_into(self, projector: Projector) -> None:
        """Fold everything from where the reader stands to the present end of the log."""
        ends = await self._consumer.end_offsets(self._partitions)
        while await self._is_before(ends):
            batches = await self._consumer.getmany(timeout_ms=200, max_records=MAX_BATCH)
            records = [record for batch in batches.values() for record in batch]
            self.records += len(records)
            await projector.project(records)

    async def _is_before(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return True
        return False


async def replay(settings: StatusSettings, *, verify_only: bool = False) -> Drift:
    """Rebuild the collection from the log.

    Args:
        verify_only: only compare; the live collection stays as it is.

    Returns:
        How the live collection differed before it was replaced.

    Raises:
        UnavailableError: Kafka or MongoDB does not answer.
    """
    await create_topics(settings)
    live = FileStore(settings)
    shadow = live.sibling(SHADOW)
    try:
        await shadow.drop()
        await shadow.prepare()
        async with LogReader.open(settings) as log:
            await log.read_into(Projector(shadow))
            drift = await _settled(live, shadow, log)
            if verify_only:
                await shadow.drop()
                return drift
            await shadow.take_the_place_of(live)
            await log.read_into(Projector(live))
        return drift
    finally:
        live.close()
        shadow.close()


async def _settled(live: FileStore, shadow: FileStore, log: LogReader) -> Drift:
    drift, before = await compare(live, shadow), Drift()
    while drift.files and drift != before:
        await asyncio.sleep(SETTLING_DELAY)
        await log.read_into(Projector(shadow))
        drift, before = await compare(live, shadow), drift
    return drift


async def compare(live: FileStore, rebuilt: FileStore) -> Drift:
    """Walk both collections in the order of their ids and note what differs."""
    drift = Drift()
    ours, theirs = live.scan(), rebuilt.scan()
    left, right = await anext(ours, None), await anext(theirs, None)
    while left is not None or right is not None:
        drift.compared += 1
        if right is None or (left is not None and left.file_id < right.file_id):
            assert left is not None  # noqa: S101 - the loop's condition
            drift.unexplained.append(left.file_id)
            left = await anext(ours, None)
        elif left is None or right.file_id < left.file_id:
            drift.missing.append(right.file_id)
            right = await anext(theirs, None)
        else:
            if left != right:
                drift.different[left.file_id] = differing_fields(left, right)
            left, right = await anext(ours, None), await anext(theirs, None)
    return drift


def main() -> None:
    """The command line of the replay."""
    parser = argparse.ArgumentParser(prog="waybill replay", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--verify", action="store_true", help="compare only; exit with 1 if anything differs"
    )
    arguments = parser.parse_args()
    settings = StatusSettings()
    configure_logging(settings)
    try:
        drift = asyncio.run(replay(settings, verify_only=arguments.verify))
    except WaybillError as error:
        sys.exit(f"replay failed: {error}")
    sys.stdout.write("\n".join(drift.lines()) + "\n")
    if arguments.verify:
        sys.exit(1 if drift.files else 0)
    sys.stdout.write("the collection was rebuilt from the log\n")


if __name__ == "__main__":
    main()

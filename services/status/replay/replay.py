"""Rebuild MongoDB from the log: `python -m services.status.replay`, or `waybill replay`.

The projector's own code folds the log into a shadow collection. That is compared with the live one,
and documents that differ are repaired one by one while the services run. An interrupted replay
resumes where it stopped when it is started again.
"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from services.status.projector import Projector
from services.status.replay.checkpoints import Checkpoints
from services.status.replay.drift import Drift, find_drift
from services.status.replay.forked_pool import ForkedPool, forked_pool
from services.status.replay.offset_ranges import OffsetRange
from services.status.replay.rebuild import Advance, OnAdvance, rebuild
from services.status.settings import StatusSettings
from services.status.store.store import FileStore
from shared.errors import KafkaUnavailableError, WaybillError
from shared.events.topics import EVENT_TOPICS
from shared.http.serving import collect_rarely
from shared.kafka.log import open_log
from shared.kafka.messaging import create_topics
from shared.settings import Settings
from shared.telemetry import configure_logging

SHADOW = "files_replay"

MAX_BATCH = 1000
"""Records of the tail that are folded together."""

NAME = re.compile(r"(?!replay$)[a-z0-9]+(_[a-z0-9]+)*")
"""Valid names of a historical collection, after `files_`."""

RESUME_HINT = "Run the same command again to resume."

EXIT_INTERRUPTED = 130
"""Exit status that shells use for a command stopped by Ctrl-C."""


class Tail:
    """Folds the events after the end of a rebuild."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    @classmethod
    @asynccontextmanager
    async def after(
        cls, folded: Sequence[OffsetRange], settings: Settings
    ) -> AsyncIterator["Tail"]:
        """Yield the tail of the log after these offset ranges."""
        async with open_log(settings, EVENT_TOPICS, client_id="replay") as (consumer, partitions):
            for offset_range in folded:
                consumer.seek(offset_range.partition, offset_range.end)
            yield cls(consumer, partitions)

    async def fold_into(self, projector: Projector) -> None:
        """Fold everything up to the current end of the log."""
        ends = await self._consumer.end_offsets(self._partitions)
        while await self._is_before(ends):
            batches = await self._consumer.getmany(timeout_ms=200, max_records=MAX_BATCH)
            records = [record for batch in batches.values() for record in batch]
            await projector.project(records)

    async def _is_before(self, ends: dict[TopicPartition, int]) -> bool:
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return True
        return False


async def replay(
    settings: StatusSettings,
    *,
    verify_only: bool = False,
    pool: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> Drift:
    """Make the live collection match the log.

    Args:
        verify_only: only compare; the live collection is not changed.
        pool: worker processes that share the work.
        restart: start over even if a replay was interrupted.

    Returns:
        The differences that were found.

    Raises:
        UnavailableError: Kafka or MongoDB is unavailable.
    """
    await create_topics(settings)
    live = FileStore(settings)
    shadow = live.sibling(SHADOW)
    try:
        with _translated():
            folded = await rebuild(
                settings, SHADOW, pool=pool, restart=restart, on_advance=on_advance
            )
            if not verify_only:  # A dropped collection has lost its indexes as well.
                await live.prepare()
            async with Tail.after(folded, settings) as tail:
                projector = Projector(shadow)
                drift = await find_drift(
                    live, shadow, lambda: tail.fold_into(projector), repair=not verify_only
                )
        await Checkpoints(shadow).drop()
        await shadow.drop()
        return drift
    finally:
        live.close()
        shadow.close()


async def rebuild_as_of(
    settings: StatusSettings,
    name: str,
    until: datetime,
    *,
    pool: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> str:
    """Fold the log as of a past time into a separate collection.

    Returns:
        The name of the collection.

    Raises:
        UnavailableError: Kafka or MongoDB is unavailable.
    """
    collection = f"files_{name}"
    with _translated():
        await rebuild(
            settings,
            collection,
            until=until,
            pool=pool,
            restart=restart,
            on_advance=on_advance,
        )
    store = FileStore(settings, collection=collection)
    try:
        await store.prepare()
        await Checkpoints(store).drop()
    finally:
        store.close()
    return collection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(f"Kafka is unavailable: {error!r}") from error


@contextmanager
def _bar() -> Iterator[OnAdvance]:
    """Show a progress bar with the remaining time, if standard error is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("records"),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("folding", total=None)

        def advance(now: Advance) -> None:
            description = "resuming" if now.resumed else "folding"
            bar.update(task, completed=now.done, total=now.total, description=description)

        yield advance


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="waybill replay", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--verify", action="store_true", help="only compare; exit with status 1 if anything differs"
    )
    parser.add_argument(
        "--until",
        type=_moment,
        metavar="TIME",
        help="rebuild a past state: fold only earlier events (ISO 8601; default UTC)",
    )
    parser.add_argument(
        "--into",
        type=_name,
        metavar="NAME",
        help="store the past state in the collection files_NAME",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of parallel processes"
    )
    parser.add_argument(
        "--restart", action="store_true", help="start over; do not resume an interrupted replay"
    )
    arguments = parser.parse_args()
    if (arguments.until is None) != (arguments.into is None):
        parser.error("--until and --into must be used together")
    if arguments.until is not None and arguments.verify:
        parser.error("--verify compares with the current state; omit --until")
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    return arguments


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("use lowercase letters, digits and _, but not `replay`")
    return text


def main() -> None:
    """Run the command line of the replay."""
    arguments = _arguments()
    settings = StatusSettings()
    configure_logging(settings)
    collect_rarely()
    try:
        # The progress bar starts a thread, and processes must be forked before.
        with forked_pool(arguments.jobs) as pool, _bar() as on_advance:
            how = {"pool": pool, "restart": arguments.restart, "on_advance": on_advance}
            if arguments.into:
                past = rebuild_as_of(settings, arguments.into, arguments.until, **how)
                report = [f"the past state is in the collection {asyncio.run(past)}"]
                drift = None
            else:
                replaying = replay(settings, verify_only=arguments.verify, **how)
                drift = asyncio.run(replaying)
                report = drift.lines()
    except (WaybillError, BrokenExecutor) as error:
        sys.exit(f"replay failed: {error}\n{RESUME_HINT}")
    except KeyboardInterrupt:
        sys.stderr.write(f"replay stopped. {RESUME_HINT}\n")
        sys.exit(EXIT_INTERRUPTED)
    if drift is not None and not arguments.verify:
        report.append("the collection matches the log")
    sys.stdout.write("\n".join(report) + "\n")
    sys.exit(1 if arguments.verify and drift is not None and drift.files else 0)

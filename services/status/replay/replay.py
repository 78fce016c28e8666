"""Rebuild MongoDB from the log: `python -m services.status.replay`, or `waybill replay`.

The log is folded, by the projector's own code, into a shadow collection; that is compared with the
live one, and what differs there is mended, file by file, while the services run. Killed, it goes on
where it stopped when it is started again.
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
"""Records of the tail that are folded in one go."""

NAME = re.compile(r"(?!replay$)[a-z0-9]+(_[a-z0-9]+)*")
"""What a collection of the past may be called, behind `files_`."""


GOES_ON = "Started again, it goes on where it stopped."

EXIT_INTERRUPTED = 130
"""What shells give back of a command that was stopped by Ctrl-C."""


class Tail:
    """Folds what comes after the end of a rebuild."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    @classmethod
    @asynccontextmanager
    async def after(
        cls, folded: Sequence[OffsetRange], settings: Settings
    ) -> AsyncIterator["Tail"]:
        """What comes after these stretches."""
        async with open_log(settings, EVENT_TOPICS, client_id="replay") as (consumer, partitions):
            for offset_range in folded:
                consumer.seek(offset_range.partition, offset_range.end)
            yield cls(consumer, partitions)

    async def fold_into(self, projector: Projector) -> None:
        """Fold everything from where the tail was left to the present end of the log."""
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
    beside: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> Drift:
    """Make the live collection what the log says.

    Args:
        verify_only: only compare; the live collection stays as it is.
        beside: processes that fold as well.
        restart: begin anew even if another replay was stopped.

    Returns:
        How the live collection differed.

    Raises:
        UnavailableError: Kafka or MongoDB does not answer.
    """
    await create_topics(settings)
    live = FileStore(settings)
    shadow = live.sibling(SHADOW)
    try:
        with _translated():
            folded = await rebuild(
                settings, SHADOW, beside=beside, restart=restart, on_advance=on_advance
            )
            if not verify_only:  # A collection that was dropped has lost its indexes as well.
                await live.prepare()
            async with Tail.after(folded, settings) as tail:
                projector = Projector(shadow)
                drift = await find_drift(
                    live, shadow, lambda: tail.fold_into(projector), mend=not verify_only
                )
        await Checkpoints(shadow).drop()
        await shadow.drop()
        return drift
    finally:
        live.close()
        shadow.close()


async def show_the_past(
    settings: StatusSettings,
    name: str,
    until: datetime,
    *,
    beside: ForkedPool | None = None,
    restart: bool = False,
    on_advance: OnAdvance = lambda _: None,
) -> str:
    """Fold the log as it was at a time into a collection of its own.

    Returns:
        The name of the collection.

    Raises:
        UnavailableError: Kafka or MongoDB does not answer.
    """
    collection = f"files_{name}"
    with _translated():
        await rebuild(
            settings,
            collection,
            until=until,
            beside=beside,
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
        raise KafkaUnavailableError(f"Kafka does not answer: {error!r}") from error


@contextmanager
def _bar() -> Iterator[OnAdvance]:
    """A bar with the time that is left, on a terminal's standard error."""
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
            description = "going on" if now.resumed else "folding"
            bar.update(task, completed=now.done, total=now.total, description=description)

        yield advance


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="waybill replay", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare only; exit with 1 if anything differs"
    )
    parser.add_argument(
        "--until",
        type=_moment,
        metavar="TIME",
        help="show the past: fold only what came before (ISO 8601; UTC unless it says otherwise)",
    )
    parser.add_argument(
        "--into", type=_name, metavar="NAME", help="the past goes to the collection files_NAME"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes that fold side by side"
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew instead of where another one stopped"
    )
    arguments = parser.parse_args()
    if (arguments.until is None) != (arguments.into is None):
        parser.error("--until and --into belong together")
    if arguments.until is not None and arguments.verify:
        parser.error("--verify compares with the present; leave out --until")
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    return arguments


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("small letters, digits and _ only, and not `replay`")
    return text


def main() -> None:
    """The command line of the replay."""
    arguments = _arguments()
    settings = StatusSettings()
    configure_logging(settings)
    collect_rarely()
    try:
        # The bar has a thread of its own, and the crew is to begin without.
        with forked_pool(arguments.jobs) as beside, _bar() as on_advance:
            how = {"beside": beside, "restart": arguments.restart, "on_advance": on_advance}
            if arguments.into:
                past = show_the_past(settings, arguments.into, arguments.until, **how)
                told = [f"the past is in the collection {asyncio.run(past)}"]
                drift = None
            else:
                replaying = replay(settings, verify_only=arguments.verify, **how)
                drift = asyncio.run(replaying)
                told = drift.lines()
    except (WaybillError, BrokenExecutor) as error:
        sys.exit(f"replay failed: {error}\n{GOES_ON}")
    except KeyboardInterrupt:
        sys.stderr.write(f"replay stopped. {GOES_ON}\n")
        sys.exit(EXIT_INTERRUPTED)
    if drift is not None and not arguments.verify:
        told.append("the collection is what the log says")
    sys.stdout.write("\n".join(told) + "\n")
    sys.exit(1 if arguments.verify and drift is not None and drift.files else 0)

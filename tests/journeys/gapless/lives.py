"""The lives of files: what is told to the log, and what it says afterwards."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.status.projection.projection import Status
from shared.events.events import (
    CompletedData,
    FailedData,
    FileCompleted,
    FileFailed,
    FileProcessing,
    FileProgressed,
    FileRequeued,
    FileRetrying,
    FileUploaded,
    ProcessingData,
    ProgressedData,
    RequeuedData,
    RetryingData,
    StatusEvent,
    UploadedData,
    new_file_id,
    utc_now,
)
from shared.events.facts import Failure, Progress, Result
from shared.events.topics import LIFECYCLE, UPLOADED, topic_of
from shared.kafka.publishing import Publisher
from shared.settings import Settings
from tests.chaos.evidence import read_topic
from tests.journeys.gapless.checker import Truth, lifecycle_states

GROUPS = 40
"""Labels and batches among which the files are dealt out."""

OWNERS = 80

FAILURE = Failure(code="demo", message="as planned", retryable=True)


@dataclass(frozen=True)
class Life:
    """One file, and what happens to it in this order."""

    file_id: str
    group: int
    owner: int
    runs: tuple[int, ...]
    """How many attempts each run has; all but the last fail."""
    progress: int
    """Reports of each attempt."""
    repeats: bool
    """Whether events are told twice, as a pod does that was thought dead."""


@dataclass
class Feed:
    """What was told, in the order in which it was."""

    told: dict[str, list[StatusEvent]] = field(default_factory=lambda: defaultdict(list))
    events: int = 0


def plan(rng: random.Random, *, events: int) -> list[Life]:
    """Lives with so many events altogether."""
    lives: list[Life] = []
    while events > 0:
        runs = tuple(rng.choice((1, 1, 1, 2)) for _ in range(rng.choice((1, 1, 1, 1, 2))))
        life = Life(
            file_id=new_file_id(),
            group=rng.randrange(GROUPS),
            owner=rng.randrange(OWNERS),
            runs=runs,
            progress=rng.choice((0, 1, 2)),
            repeats=rng.random() < 0.1,
        )
        lives.append(life)
        events -= len(list(events_of(life)))
    return lives


def events_of(life: Life) -> list[StatusEvent]:
    """The events of a life, in the order in which they happen."""
    upload = {
        "blob": f"files/{life.file_id}/source",
        "content_type": "text/plain",
        "size": 5,
        "sha256": "0" * 64,
        "name": "file.txt",
        "owner": f"owner-{life.owner}",
        "labels": {"group": str(life.group)},
        "batch_id": f"batch-{life.group}",
    }
    source, now = "/gapless", utc_now()
    events: list[StatusEvent] = []
    for run, attempts in enumerate(life.runs, 1):
        if run == 1:
            first = UploadedData.model_validate(upload)
            events.append(FileUploaded.of(life.file_id, first, source=source, time=now))
        else:
            again = RequeuedData.model_validate(
                upload | {"run": run, "created_at": now, "reason": "asked for"}
            )
            events.append(FileRequeued.of(life.file_id, again, source=source))
        for attempt in range(1, attempts + 1):
            of_attempt = {"run": run, "attempt": attempt, "max_attempts": 3}
            started = ProcessingData(**of_attempt, pod="pod")
            events.append(FileProcessing.of(life.file_id, started, source=source))
            for seq in range(1, life.progress + 1):
                report = ProgressedData(
                    **of_attempt, seq=seq, phase="working", progress=Progress(done=seq, total=9)
                )
                events.append(FileProgressed.of(life.file_id, report, source=source))
            if attempt < attempts:
                retry = RetryingData(**of_attempt, error=FAILURE, next_attempt_at=utc_now())
                events.append(FileRetrying.of(life.file_id, retry, source=source))
        if run < len(life.runs):
            failed = FailedData(**of_attempt, error=FAILURE)
            events.append(FileFailed.of(life.file_id, failed, source=source))
        else:
            done = CompletedData(**of_attempt, result=Result(prefix="files/x"))
            events.append(FileCompleted.of(life.file_id, done, source=source))
    if life.repeats:
        # The first upload once more, as the relay of the outbox may, and a late word of a pod.
        events += [events[0], events[1]]
    return events


async def live(settings: Settings, lives: Sequence[Life], *, rate: float, feed: Feed) -> None:
    """Tell the log of all lives, so many events a second, each in the order of its events."""
    at_once = asyncio.Semaphore(max(8, int(rate / 8)))
    async with Publisher(settings, client_id="gapless") as publisher:
        begun = time.monotonic()

        async def tell(life: Life) -> None:
            async with at_once:
                for event in events_of(life):
                    feed.events += 1
                    await asyncio.sleep(begun + feed.events / rate - time.monotonic())
                    await publisher.publish(event)
                    feed.told[life.file_id].append(event)

        async with asyncio.TaskGroup() as group:
            for life in lives:
                group.create_task(tell(life))


async def truth_of(settings: Settings, feed: Feed) -> Truth:
    """The lifecycle states of each file, by the log's own events and offsets."""
    logged: dict[tuple[str, str], list[int]] = defaultdict(list)
    for topic in (UPLOADED, LIFECYCLE):
        for each in await read_topic(settings, topic):
            logged[topic.name, each.event.file_id].append(each.offset)
    return {file_id: _states(events, logged) for file_id, events in feed.told.items()}


def _states(
    events: Sequence[StatusEvent], logged: dict[tuple[str, str], list[int]]
) -> list[Status]:
    ends: dict[str, int] = defaultdict(int)
    placed: list[tuple[StatusEvent, int]] = []
    for event in events:
        topic = topic_of(event.type)
        if topic not in (UPLOADED, LIFECYCLE):
            continue  # Progress is no lifecycle state.
        placed.append((event, logged[topic.name, event.file_id][ends[topic.name]]))
        ends[topic.name] += 1
    return lifecycle_states(placed)

"""The long chaos run: `make chaos [SEED=…] [FILES=2000]`.

Thousands of files are uploaded while faults are injected:

- Pods are killed, paused, drained and added, and get wrong clocks.
- Kafka is killed, frozen and stopped.
- MongoDB is killed, and stopped for three minutes.
- The status service is killed.
- The disks of Kafka, the blob store and the workers fill up.
- Records arrive that cannot be stored.

Filling disks requires root, and wrong clocks require a C compiler. Faults that are impossible on
this machine are reported and skipped. The exit code is 1 if a promise was broken.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from shared.settings import Settings
from tests.chaos import clocks
from tests.chaos.checker import broken_promises, describe, summary
from tests.chaos.disks import Disks, mounted_disks
from tests.chaos.faults import (
    CLOCK_FAULTS,
    DISK_FAULTS,
    Fault,
    Kind,
    make_schedule,
    seconds_without_mongodb_alone,
)
from tests.chaos.parts import PartStriker
from tests.chaos.plan import make_plan
from tests.chaos.poison import POISONS
from tests.chaos.run import run
from waybill.local.parts import Parts, running_parts

PODS = 3

FAULT_GAP = (4.0, 8.0)
"""Seconds between two faults: shortest and longest."""

CALM = 240.0
"""Seconds after the last fault for everything to finish."""

ALWAYS = tuple(kind for kind in Kind if kind is not Kind.END)
"""Faults in every run."""

MORE = (*[Kind.KILL] * 2, Kind.PAUSE, Kind.DRAIN)
"""Faults that are repeated; adding pods is not."""

FILES_A_FAULT = 70
"""Files per fault, above the minimum number of faults."""

SHOWN_PROBLEMS = 8
"""Breaks of one promise that are printed in full; all are counted."""

DRAWS = 500
"""Number of random fault orders to choose from."""

MIN_JUDGED = 80.0
"""Minimum seconds without MongoDB, but with a healthy Kafka, during which streams are judged."""

TEXTS = 8
"""Percentage of files that are plain texts."""

SCRIPTS = 4
"""Percentage of files whose results are unusual or cannot be stored."""

POISON_EVERY = 100
"""Files per record that cannot be stored."""


def main() -> int:
    """Run once and print the result."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="waybill-chaos-"))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # The broker is stopped at times.
    began = time.monotonic()
    with ExitStack() as stack:
        disks = open_disks(stack, folder)
        schedule = long_schedule(seed, files=arguments.files, without=impossible(disks))
        seconds = schedule[-1].at
        say(
            f"seed {seed}, {arguments.files} files, {len(schedule)} faults in {seconds:.0f} s; "
            f"logs in {folder}"
        )
        parts = stack.enter_context(running_parts(folder))
        striker = PartStriker(parts, disks)
        kept = asyncio.run(one_run(seed, arguments.files, schedule, folder, parts, striker))
    say(
        f"{'every promise was kept' if kept else 'PROMISES WERE BROKEN'}; "
        f"{time.monotonic() - began:.0f} s"
    )
    if kept:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if kept else 1


def open_disks(stack: ExitStack, folder: Path) -> Disks:
    """Mount disks that can be filled, until the stack closes; none without permission to mount."""
    try:
        return stack.enter_context(mounted_disks(folder))
    except PermissionError as error:
        say(f"no disk is filled: {error}")
        return {}


def impossible(disks: Disks) -> frozenset[Kind]:
    """Return the faults that are impossible on this machine."""
    kinds = set() if disks else {*DISK_FAULTS}
    if not clocks.can_be_wrong():
        say("no clock is set wrong: there is no C compiler (cc)")
        kinds |= {*CLOCK_FAULTS}
    return frozenset(kinds)


def long_schedule(
    seed: int, *, files: int, without: frozenset[Kind] = frozenset()
) -> tuple[Fault, ...]:
    """Return a schedule with every possible fault, and repeated pod faults for many files.

    Of several random orders, the one that takes the least time is used.
    """
    count = max(0, files // FILES_A_FAULT - len(ALWAYS))
    kinds = [*ALWAYS, *(MORE[turn % len(MORE)] for turn in range(count))]
    possible = [kind for kind in kinds if kind not in without]
    drawn = [
        make_schedule(f"{seed}.{turn}", possible, slots=PODS, gap=FAULT_GAP)
        for turn in range(DRAWS)
    ]
    judged = [each for each in drawn if seconds_without_mongodb_alone(each) >= MIN_JUDGED]
    return min(judged or drawn, key=lambda schedule: schedule[-1].at)


async def one_run(
    seed: int,
    files: int,
    schedule: tuple[Fault, ...],
    folder: Path,
    parts: Parts,
    striker: PartStriker,
) -> bool:
    """Return True if every promise was kept."""
    if not {"kafka", "mongodb"} <= parts.children.keys():
        sys.exit(
            "make chaos kills its Kafka and MongoDB, so it must start them itself: "
            "unset WAYBILL_KAFKA and WAYBILL_MONGODB."
        )
    settings = Settings(
        kafka=parts.kafka, mongodb=parts.mongodb, blobs=str(folder / "blobs"), demo=True
    )
    evidence = await run(
        settings,
        folder,
        make_plan(
            seed,
            files=files,
            seconds=schedule[-1].at,
            texts=TEXTS,
            scripts=SCRIPTS,
            poison=max(len(POISONS), files // POISON_EVERY),
        ),
        schedule,
        pods=PODS,
        calm=CALM,
        strike_part=striker.strike,
    )
    for line in summary(evidence):
        say(line)
    broken = broken_promises(evidence)
    if broken:
        say(
            describe(
                evidence,
                [problem for problems in broken.values() for problem in problems[:SHOWN_PROBLEMS]],
            )
        )
        for promise, problems in broken.items():
            say(f"BROKEN {promise}: {len(problems)} times")
    return not broken


def say(line: str) -> None:
    """Print a line and flush."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

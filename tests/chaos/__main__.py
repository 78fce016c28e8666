"""The long form: `make chaos [SEED=…] [FILES=2000]`.

Thousands of files go in while pods are killed, paused, drained and added, the broker is killed and
stopped, and MongoDB and the status service are killed. Exit code 1 if a promise was broken.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from shared.settings import Settings
from tests.chaos.checker import check, summary, tell
from tests.chaos.faults import Fault, Kind, make_schedule
from tests.chaos.parts import PartStriker
from tests.chaos.plan import make_plan
from tests.chaos.run import run
from waybill.local.parts import Parts, running_parts

PODS = 3

FILES_A_SECOND = 15
"""How many files there are to each second of faults: somewhat more than three pods can take while
they are being hit. For the minute without Kafka fewer come in, as each upload takes longer."""

GAP = (4.0, 8.0)
"""Seconds between two faults."""

CALM = 240.0
"""Seconds after the last fault for everything to end."""

ALWAYS = (
    *(Kind.KILL_BROKER, Kind.STOP_BROKER, Kind.KILL_MONGODB, Kind.KILL_STATUS),
    *(Kind.KILL, Kind.PAUSE, Kind.DRAIN, Kind.ADD),
)
"""What is done in every run."""

MORE = (*[Kind.KILL] * 2, Kind.PAUSE, Kind.DRAIN)
"""What is done again and again for as long as files come in; adding pods is not."""


def main() -> int:
    """Run once and tell how it went."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1000) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="waybill-chaos-"))
    schedule = long_schedule(seed, files=arguments.files)
    say(f"seed {seed}, {arguments.files} files, {len(schedule)} faults; logs in {folder}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # The broker is away now and then.
    began = time.monotonic()
    with running_parts(folder) as parts:
        kept = asyncio.run(one_run(seed, arguments.files, schedule, folder, parts))
    say(
        f"{'every promise was kept' if kept else 'PROMISES WERE BROKEN'}; "
        f"{time.monotonic() - began:.0f} s"
    )
    if kept:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if kept else 1


def long_schedule(seed: int, *, files: int) -> tuple[Fault, ...]:
    """As many faults as fit into the time in which files come in."""
    seconds = files / FILES_A_SECOND
    count = max(len(ALWAYS), int(seconds / (sum(GAP) / 2)))
    more = [MORE[turn % len(MORE)] for turn in range(count - len(ALWAYS))]
    return make_schedule(seed, [*ALWAYS, *more], slots=PODS, gap=GAP)


async def one_run(
    seed: int, files: int, schedule: tuple[Fault, ...], folder: Path, parts: Parts
) -> bool:
    """Whether every promise was kept."""
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
        make_plan(seed, files=files, seconds=schedule[-1].at),
        schedule,
        pods=PODS,
        calm=CALM,
        strike_part=PartStriker(parts).strike,
    )
    problems = check(evidence)
    for line in summary(evidence):
        say(line)
    if problems:
        say(tell(evidence, problems))
    return not problems


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

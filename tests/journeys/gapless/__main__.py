"""The long form: `python -m tests.journeys.gapless`, or `make gapless`."""

import argparse
import asyncio
import sys
import tempfile
import uuid
from pathlib import Path

from shared.settings import Settings
from tests.journeys.gapless.run import Size, run
from tests.support.stack import backing_parts


def main() -> None:
    """The command line; exits with 1 if there is a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--restarts", type=int, default=6)
    parser.add_argument("--patience", type=float, default=15.0, help="mean seconds until a cut")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    name = f"gapless{uuid.uuid4().hex[:8]}"
    size = Size(
        observers=asked.observers,
        rate=asked.rate,
        seconds=asked.seconds,
        restarts=asked.restarts,
        patience=asked.patience,
    )
    with tempfile.TemporaryDirectory() as folder, backing_parts(Path(folder)) as parts:
        settings = Settings(
            kafka=parts.kafka, mongodb=parts.mongodb, database=name, topic_prefix=f"{name}."
        )
        report = asyncio.run(run(settings, Path(folder), size, seed=asked.seed))
    sys.stdout.write("\n".join(report.lines()) + "\n")
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()

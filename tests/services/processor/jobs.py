"""Jobs for the worker processes."""

import json
from pathlib import Path
from typing import Any

from services.processor.channel import Advanced, Job
from shared.settings import DEMO_TYPE


def demo(folder: Path, *, attempt: int = 1, **spec: Any) -> Job:
    """A demo file in `folder`, and the job to work on it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "source"
    path.write_text(json.dumps(spec))
    return Job(
        source=path,
        scratch=folder / "scratch",
        content_type=DEMO_TYPE,
        size=path.stat().st_size,
        run=1,
        attempt=attempt,
        ocr=False,
    )


def ignore(_: Advanced) -> None:
    """Take no note of progress."""

"""Build jobs for worker processes."""

import hashlib
import json
from pathlib import Path
from typing import Any

from services.processor.channel import Advanced, Job, Packed
from shared.blobs.files import Small
from shared.blobs.packs import PackWriter
from shared.settings import DEMO_TYPE


def demo(folder: Path, *, attempt: int = 1, **spec: Any) -> Job:
    """Write a demo file to `folder` and return the job for it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "source"
    path.write_text(json.dumps(spec))
    return Job(
        source=str(path),
        scratch=str(folder / "scratch"),
        content_type=DEMO_TYPE,
        size=path.stat().st_size,
        run=1,
        attempt=attempt,
        ocr=False,
    )


def packed(job: Job, writer: PackWriter, *, sha256: str | None = None) -> Job:
    """Return the same job with its file stored in a pack."""
    assert isinstance(job.source, str)
    content = Path(job.source).read_bytes()
    blob = Small("sources/one", content, durable=False, anywhere=True)
    assert writer.take([blob]) == []
    source = Packed(
        root=str(writer.root), key=blob.key, sha256=sha256 or hashlib.sha256(content).hexdigest()
    )
    return job.model_copy(update={"source": source, "size": len(content)})


def ignore(_: Advanced) -> None:
    """Ignore progress."""

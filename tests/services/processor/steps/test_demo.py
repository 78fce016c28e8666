"""Demo files behave as they specify."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shared.settings import DEMO_TYPE
from tests.services.processor.steps.processing import Processing

IN_A_PROCESS = """
import resource, sys
from pathlib import Path
from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline
from tests.services.processor.steps.processing import FakeContext
limit = 512 << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
path = Path(sys.argv[1])
document = Document(path=path, content_type=sys.argv[2], size=path.stat().st_size)
run_pipeline(document, FakeContext(path.parent))
"""


def demo(**asked: Any) -> bytes:
    return json.dumps(asked).encode()


def start_process(folder: Path, **asked: Any) -> "subprocess.Popen[str]":
    path = folder / "source"
    path.write_bytes(demo(**asked))
    command = [sys.executable, "-c", IN_A_PROCESS, str(path), DEMO_TYPE]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_it_completes_with_its_steps_and_an_artifact(processing: Processing) -> None:
    document = processing.run(demo(steps=3, seconds=0.01), DEMO_TYPE)
    assert document.statistics == {"steps": 3}
    content_type, content = processing.context.artifacts["demo.json"]
    assert content_type == "application/json"
    assert json.loads(content)["steps"] == 3


def test_it_takes_its_time_and_tells_of_each_step(processing: Processing) -> None:
    started = time.monotonic()
    processing.run(demo(seconds=0.2, steps=4), DEMO_TYPE)
    assert time.monotonic() - started >= 0.2
    assert processing.context.reports == [("working", done, 4) for done in range(5)]


def test_a_demo_of_no_seconds_is_done_in_no_time(processing: Processing) -> None:
    processing.run(demo(), DEMO_TYPE)
    started = time.monotonic()
    for _ in range(100):
        processing.run(demo(), DEMO_TYPE)
    assert time.monotonic() - started < 1, "a hundred of them take some ten milliseconds"
    assert processing.context.reports == []


def test_it_fails_for_good_when_asked_to(processing: Processing) -> None:
    assert processing.permanent_error(demo(then="fail"), DEMO_TYPE) == "demo_failed"


def test_it_fails_until_the_attempt_that_it_names(processing: Processing) -> None:
    content = demo(then="retry", until=3)
    assert processing.transient_error(content, DEMO_TYPE) == "demo_retry"
    processing.context.attempt = 2
    assert processing.transient_error(content, DEMO_TYPE) == "demo_retry"
    processing.context.attempt = 3
    assert processing.run(content, DEMO_TYPE).statistics == {"steps": 1}


def test_it_kills_its_process_when_asked_to_crash(tmp_path: Path) -> None:
    process = start_process(tmp_path, then="crash")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL


def test_it_hangs_when_asked_to(tmp_path: Path) -> None:
    process = start_process(tmp_path, then="hang")
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=2)
    process.kill()
    process.communicate()


def test_it_takes_all_the_memory_there_is_when_asked_to(tmp_path: Path) -> None:
    process = start_process(tmp_path, then="memory")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "MemoryError" in errors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"then": "explode"}',
        b'{"seconds": -1}',
        b'{"seconds": NaN}',
        b'{"steps": 0}',
        b'{"second": 1}',
        b" " * (1 << 20) + b"{}",
    ],
)
def test_what_is_no_demo_is_refused(processing: Processing, content: bytes) -> None:
    assert processing.permanent_error(content, DEMO_TYPE) == "bad_demo"

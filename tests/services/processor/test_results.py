"""Every result is stored, or rejected once with the invalid field; nothing crashes."""

import asyncio
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.processor import plugins
from services.processor.channel import (
    Advanced,
    Done,
    Frame,
    GarbledError,
    Job,
    encode,
    read_report,
)
from services.processor.isolation.limits import Limits
from services.processor.progress import ProgressReporter
from services.processor.reports import PARTS, measured
from services.processor.results import checked_artifact, checked_statistics
from services.processor.settings import ProcessorSettings
from services.processor.workers import WorkerPool, WorkerPools
from shared.blobs.blobs import BlobStore
from shared.blobs.places import source_key
from shared.events.events import (
    Event,
    FileFailed,
    FileProgressed,
    FileUploaded,
    UploadedData,
    new_file_id,
)
from shared.events.facts import Progress, furthest
from shared.events.topics import LIFECYCLE
from shared.kafka.publishing import Publisher
from shared.workerrors import PermanentError
from tests.services.processor.jobs import ignore
from tests.services.processor.pods import processing_pod, types_of
from tests.support.consuming import consume
from tests.support.poison import HARMLESS, RESULTS

MODULE = "tests.support.poison"


@pytest.fixture(autouse=True)
def unregistered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the plugin for the duration of a test."""
    monkeypatch.setattr(plugins, "_registered", {})
    sys.modules.pop(MODULE, None)
    yield
    sys.modules.pop(MODULE, None)


def job(folder: Path, number: int, code: str) -> Job:
    path = folder / f"{number}.poison"
    path.write_text(code)
    pipelines = plugins.load_plugins([MODULE])
    return Job(
        source=str(path),
        scratch=str(folder / f"scratch-{number}"),
        content_type="text/x-python",
        size=len(code),
        run=1,
        attempt=1,
        ocr=False,
        plugin=pipelines.job_of("poison"),
    )


async def test_each_result_that_cannot_be_kept_ends_with_its_code_and_every_other_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "workers").mkdir()
    pool = WorkerPool(
        size=1, folder=tmp_path / "workers", limits=Limits(memory=512 << 20), time_limit=30
    )
    both = WorkerPools(pool, None)
    await both.start()
    try:
        ends: dict[str, str] = {}
        messages: dict[str, str] = {}
        for number, code in enumerate([*RESULTS, *HARMLESS]):
            outcome = await both.run(job(tmp_path, number, code), ignore)
            if isinstance(outcome, Done):
                ends[code] = "kept"
            else:
                ends[code] = outcome.error.code
                messages[code] = outcome.error.message
                assert outcome.error.retryable == (
                    (outcome.error.code == "step_failed" and "None" not in code)
                    or code.startswith("raise TransientError")
                )
    finally:
        await both.stop()
    assert ends == RESULTS | dict.fromkeys(HARMLESS, "kept")
    for message in messages.values():
        message.encode()
        assert "\x00" not in message
    assert r"statistics['a\x00b']: the key has a NUL" in messages[next(iter(RESULTS))]
    assert "statistics.n is an integer beyond 64 bits" in "".join(messages.values())
    assert r"the content type 'text/plain\r\nSet-Cookie: a=b'" in "".join(messages.values())


async def test_a_file_with_a_bad_result_fails_at_its_first_attempt_and_says_why(
    publisher: Publisher, processor_settings: ProcessorSettings, blobs: BlobStore
) -> None:
    codes = {new_file_id(): code for code in (*list(RESULTS)[:3], *HARMLESS[:3])}
    for file_id, code in codes.items():
        blob = await blobs.put(source_key(file_id), code.encode())
        data = UploadedData(
            blob=blob, content_type="text/x-python", size=len(code), name="a.poison"
        )
        await publisher.publish(FileUploaded.of(file_id, data, source="/upload"))
    async with processing_pod(processor_settings, plugins=(MODULE,)):
        events = await consume(processor_settings, LIFECYCLE, 2 * len(codes), seconds=60)
    for file_id, code in codes.items():
        ended = "failed" if code in RESULTS else "completed"
        assert types_of(events, file_id) == ["processing", ended], code
    for event in events:
        if isinstance(event, FileFailed):
            assert (event.data.attempt, event.data.error.code) == (1, "bad_result")
            assert "statistics[" in event.data.error.message


def test_numbers_of_other_types_are_kept_as_plain_ones() -> None:
    import numpy

    kept = checked_statistics({"a": numpy.int64(3), "b": numpy.float32(0.5), "c": True})
    assert kept == {"a": 3, "b": 0.5, "c": True}
    assert [type(each) for each in kept.values()] == [int, float, bool]


@pytest.mark.parametrize(
    "statistics", [{"a\x00b": 1}, {"a": 2**63}, {"$ref": 1}], ids=["NUL", "2**63", "$ref"]
)
def test_a_worker_that_was_taken_over_is_believed_no_such_result(
    statistics: dict[str, Any],
) -> None:
    told = {"kind": "done", "statistics": statistics, "artifacts": []}
    with pytest.raises(GarbledError):
        read_report(Frame(json.dumps(told).encode(), b""))


def test_a_type_that_is_no_header_is_none_although_a_worker_tells_it() -> None:
    artifact = {"name": "a", "content_type": "a/b\r\nX: y", "size": 0, "inline": True}
    told = {"kind": "done", "statistics": {}, "artifacts": [artifact]}
    report = read_report(Frame(json.dumps(told).encode(), b""))
    assert isinstance(report, Done)
    assert report.artifacts[0].content_type == "application/octet-stream"


ODD = st.one_of(
    st.integers(), st.floats(), st.none(), st.text(max_size=3), st.booleans(), st.decimals()
)


@given(ODD, ODD)
def test_any_two_values_are_some_progress(done: Any, total: Any) -> None:
    progress = measured(done, total)
    encode(Advanced(phase="a", progress=Progress.model_validate(vars(progress))))
    assert progress.done <= progress.total or progress.total == 0


def test_parts_of_one_keep_their_share() -> None:
    assert measured(0.25, 1.0) == Progress(done=PARTS // 4, total=PARTS)
    assert measured(3.0, 4.0) == Progress(done=3, total=4)
    assert measured(19, 20) == Progress(done=19, total=20)
    assert measured(5, 3) == Progress(done=3, total=3)
    assert measured(float("nan"), 3) == Progress(done=0, total=3)


PROGRESS = st.builds(
    Progress, done=st.integers(0, 50), total=st.sampled_from([0, 1, 2, 3, 20, 40, 50])
)


@given(st.permutations([(19, 20), (0, 1), (1, 1), (3, 0), (2, 2), (38, 40), (0, 0)]))
def test_what_was_reached_does_not_depend_on_the_order(told: list[tuple[int, int]]) -> None:
    reached: Progress | None = None
    for done, total in told:
        reached = furthest(reached, Progress(done=done, total=total))
    assert reached == Progress(done=2, total=2)


@given(st.lists(PROGRESS, min_size=1))
def test_progress_never_falls(told: list[Progress]) -> None:
    reached, shares = None, []
    for each in told:
        reached = furthest(reached, each)
        shares.append(min(reached.done, reached.total) / reached.total if reached.total else 0)
    assert shares == sorted(shares)


class Told:
    """A publisher that records events."""

    def __init__(self) -> None:
        self.events: list[FileProgressed] = []

    async def publish(self, event: Event) -> None:
        assert isinstance(event, FileProgressed)
        self.events.append(event)


async def test_a_new_phase_of_an_attempt_begins_where_the_last_one_ended() -> None:
    publisher: Any = Told()
    counts = {"run": 1, "attempt": 1, "max_attempts": 3}
    reporter = ProgressReporter(publisher, "f1", counts)
    for phase, done, total in [("ocr", 19, 20), ("counting", 0, 1), ("counting", 1, 1)]:
        progress = Progress(done=done, total=total)
        reporter.advance(Advanced(phase=phase, progress=progress, message="a\x00"))
        await asyncio.sleep(0.01)
    told = [
        (each.data.phase, each.data.progress.done, each.data.progress.total)
        for each in publisher.events
    ]
    assert told == [("ocr", 19, 20), ("counting", 19, 20), ("counting", 1, 1)]
    assert publisher.events[0].data.message == "a\ufffd"
    assert reporter.latest == Progress(done=1, total=1)


@pytest.mark.parametrize(
    "statistics",
    [{10**5000: 1}, {"a": 10**5000}, {"a": Fraction(10**400)}],
)
def test_numbers_beyond_what_python_writes_are_no_result(statistics: dict[Any, Any]) -> None:
    with pytest.raises(PermanentError) as refused:
        checked_statistics(statistics)
    assert refused.value.error_code == "bad_result"
    with pytest.raises(PermanentError) as refused:
        checked_artifact(10**5000, "text/plain", b"")
    assert refused.value.error_code == "bad_result"

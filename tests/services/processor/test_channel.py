"""What pod and worker tell each other survives any way in which a socket cuts it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.processor.channel import (
    MAX_FRAME,
    Advanced,
    Broken,
    Done,
    Frames,
    GarbledError,
    ProducedArtifact,
    encode,
    read_report,
)
from shared.events import Failure, Progress

REPORTS = [
    Advanced(phase="reading", progress=Progress(done=1, total=2), message="å"),
    Done(statistics={"pages": 2}, artifacts=[]),
    Done(
        statistics={},
        artifacts=[
            ProducedArtifact(name="a.txt", content_type="text/plain", size=3, path=None),
            ProducedArtifact(name="b.bin", content_type="a/b", size=9, path=Path("/tmp/b")),
            ProducedArtifact(name="c.txt", content_type="text/plain", size=2, path=None),
        ],
        content=b"\x00\xffacc",
    ),
    Broken(error=Failure(code="bad", message="", retryable=False), tainted=True),
]


@given(st.lists(st.sampled_from(REPORTS), max_size=6), st.integers(1, 50))
def test_reports_arrive_as_they_were_sent_however_they_are_cut(
    sent: list[Advanced | Done | Broken], piece: int
) -> None:
    stream = b"".join(encode(each) for each in sent)
    frames = Frames()
    received = [
        read_report(frame)
        for start in range(0, len(stream), piece)
        for frame in frames.feed(stream[start : start + piece])
    ]
    assert received == sent


def test_each_artifact_has_its_own_content_or_its_file() -> None:
    done = REPORTS[2]
    assert isinstance(done, Done)
    contents = [(artifact.name, content) for artifact, content in done.contents()]
    assert contents == [("a.txt", b"\x00\xffa"), ("b.bin", Path("/tmp/b")), ("c.txt", b"cc")]


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    with pytest.raises(GarbledError, match="bytes"):
        list(Frames().feed((MAX_FRAME + 1).to_bytes(4, "big") + bytes(4)))


def test_a_frame_that_is_no_report_is_refused() -> None:
    (frame,) = Frames().feed((2).to_bytes(4, "big") + bytes(4) + b"{}")
    with pytest.raises(GarbledError, match="no report"):
        read_report(frame)

"""Messages between pod and worker survive any fragmentation by the socket."""

import os
from collections.abc import Callable
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
    FrameTooLargeError,
    GarbledError,
    ProducedArtifact,
    encode,
    read_report,
)
from services.processor.output_files import FOLDER, OutputFile, OutputFileError, open_output_file
from shared.events.facts import Failure, Progress

REPORTS = [
    Advanced(phase="reading", progress=Progress(done=1, total=2), message="å"),
    Done(statistics={"pages": 2}, artifacts=[]),
    Done(
        statistics={},
        artifacts=[
            ProducedArtifact(name="a.txt", content_type="text/plain", size=3, inline=True),
            ProducedArtifact(name="b.bin", content_type="a/b", size=9, inline=False),
            ProducedArtifact(name="c.txt", content_type="text/plain", size=2, inline=True),
        ],
        content=b"\x00\xffacc",
    ),
    Broken(error=Failure(code="bad", message="", retryable=False), last=True),
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


def test_each_artifact_has_its_own_content_or_its_file(tmp_path: Path) -> None:
    done = REPORTS[2]
    assert isinstance(done, Done)
    file = tmp_path / FOLDER / "1"
    file.parent.mkdir()
    file.write_bytes(b"123456789")
    contents = [
        (artifact.name, content.read(99) if isinstance(content, OutputFile) else content)
        for artifact, content in done.contents(str(tmp_path))
    ]
    assert contents == [("a.txt", b"\x00\xffa"), ("b.bin", b"123456789"), ("c.txt", b"cc")]


def _symbolic_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _hard_link(path: Path) -> None:
    (path.parent / "other").write_bytes(b"123456789")
    path.hardlink_to(path.parent / "other")


def _folder_elsewhere(path: Path) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    path.parent.rename(elsewhere)
    (elsewhere / path.name).write_bytes(b"123456789")
    path.parent.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("leave", "why"),
    [
        (_symbolic_link, "symbolic links"),
        (_hard_link, "hard link"),
        (_folder_elsewhere, "Not a directory|symbolic links"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: path.write_bytes(b"1234"), "4 bytes"),
        (lambda _: None, "No such file"),
    ],
)
def test_what_is_left_in_place_of_an_artifact_is_refused(
    tmp_path: Path, leave: Callable[[Path], object], why: str
) -> None:
    done = REPORTS[2]
    assert isinstance(done, Done)
    file = tmp_path / FOLDER / "1"
    file.parent.mkdir()
    leave(file)
    with pytest.raises(GarbledError, match=why):
        list(done.contents(str(tmp_path)))


def test_an_artifact_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / FOLDER / "1"
    file.parent.mkdir()
    file.write_bytes(b"123456789")
    with open_output_file(str(tmp_path), "1", size=9) as left:
        os.truncate(file, 3)
        assert left.read(99) == b"123"
        with pytest.raises(OutputFileError, match="6 bytes before"):
            left.read(99)


def test_an_artifact_that_grows_while_it_is_read_keeps_its_announced_size(tmp_path: Path) -> None:
    file = tmp_path / FOLDER / "1"
    file.parent.mkdir()
    file.write_bytes(b"123")
    with open_output_file(str(tmp_path), "1", size=3) as left:
        file.write_bytes(b"123456789")
        assert (left.read(99), left.read(99)) == (b"123", b"")


def test_a_frame_that_is_too_long_is_refused_before_it_is_kept() -> None:
    with pytest.raises(GarbledError, match="bytes"):
        list(Frames().feed((MAX_FRAME + 1).to_bytes(4, "big") + bytes(4)))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"kind":"done"}',
        b'{"kind":"done","statistics":{"a":[]},"artifacts":[]}',
        b'{"kind":"done","statistics":{},"artifacts":'
        b'[{"name":"../../x","content_type":"a/b","size":0,"inline":true}]}',
    ],
)
def test_a_frame_that_is_no_report_is_refused(document: bytes) -> None:
    (frame,) = Frames().feed(len(document).to_bytes(4, "big") + bytes(4) + document)
    with pytest.raises(GarbledError, match="invalid report"):
        read_report(frame)


def test_contents_of_another_length_than_told_are_refused() -> None:
    done = REPORTS[2]
    assert isinstance(done, Done)
    (frame,) = Frames().feed(encode(done.model_copy(update={"content": b"x"})))
    with pytest.raises(GarbledError, match="size"):
        read_report(frame)


def test_a_message_that_nobody_would_read_is_not_made() -> None:
    with pytest.raises(FrameTooLargeError):
        encode(Done(statistics={"huge": "x" * MAX_FRAME}, artifacts=[]))

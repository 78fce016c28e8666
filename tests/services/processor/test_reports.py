"""Progress is published first, last and a few times per second, whatever a step reports."""

import contextlib
import socket
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.processor.channel import Advanced, Frames, read_report
from services.processor.isolation.cell import Cell
from services.processor.reports import BURST, INTERVAL, MAX_MESSAGE, Reports
from services.processor.worker import WorkerContext
from tests.services.processor.jobs import demo


def test_the_first_and_the_last_report_are_told_however_fast_they_follow() -> None:
    reports = Reports()
    told = [done for done in range(101) if reports.is_due("a", done=done, total=100, now=0.0)]
    assert told == [0, 100]


def test_a_last_report_that_is_repeated_is_told_once() -> None:
    reports = Reports()
    assert [reports.is_due("a", done=1, total=1, now=0.0) for _ in range(3)] == [True, False, False]


def test_between_first_and_last_four_a_second_are_told() -> None:
    reports = Reports()
    told = [
        tenth / 10 for tenth in range(50) if reports.is_due("a", done=0, total=9, now=tenth / 10)
    ]
    assert 4 * 3 <= len(told) <= 4 * 5


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.floats(0, 0.1))))
def test_no_order_of_reports_makes_more_than_four_a_second_and_a_few(
    asked: list[tuple[str, int, float]],
) -> None:
    reports, now, told = Reports(), 0.0, 0
    for phase, done, wait in asked:
        now += wait
        told += reports.is_due(phase, done=done, total=2, now=now)
    assert told <= now / INTERVAL + BURST + 1


def heard(ours: socket.socket) -> list[Advanced]:
    ours.setblocking(False)
    frames, found = Frames(), []
    try:
        while data := ours.recv(1 << 16):
            found += [read_report(frame) for frame in frames.feed(data)]
    except BlockingIOError:
        pass
    return [each for each in found if isinstance(each, Advanced)]


def test_the_phase_is_the_name_of_the_step_unless_it_is_given(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = WorkerContext(demo(tmp_path), theirs, Cell(folder=tmp_path), 1)
        context.step = "translate"
        context.progress(1, 3, "page 1")
        context.progress(0, 3, phase="resting")
        context.progress(-1, -5, "x" * 10_000, phase="odd")
        told = heard(ours)
    assert [(each.phase, each.message) for each in told[:2]] == [
        ("translate", "page 1"),
        ("resting", None),
    ]
    assert (told[2].progress.done, told[2].progress.total) == (0, 0)
    assert told[2].message == "x" * MAX_MESSAGE


def test_a_pod_that_does_not_listen_costs_reports_and_never_time(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context = WorkerContext(demo(tmp_path), theirs, Cell(folder=tmp_path), 1)
        theirs.setblocking(False)
        try:
            while True:
                theirs.send(b"x" * 1000)
        except BlockingIOError:
            theirs.setblocking(True)
        context.progress(0, 1)  # would block forever if it waited
        ours.setblocking(False)
        received = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                received += ours.recv(1 << 16)
    assert set(received) == {ord("x")}

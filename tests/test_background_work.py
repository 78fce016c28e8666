"""Nothing runs in the background without a supervisor, but for what is listed here with its reason.

A task that nobody awaits dies in silence. A loop belongs to `shared/background/supervision.py`;
what is listed lasts no longer than what it is for, and says what becomes of its failure.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

STARTERS = {
    "create_task",
    "ensure_future",
    "TaskGroup",
    "call_later",
    "call_at",
    "run_coroutine_threadsafe",
    "Thread",
}

ALLOWED = {
    "shared/background/supervision.py:_start": "the supervisor itself",
    "shared/background/supervision.py:_run_once": "one run, whose end the supervisor sees",
    "shared/blobs/blobcopy.py:copy_blobs": "a command: its group ends with it",
    "shared/blobs/files.py:take": "threads that write; each error goes to who waits for the blob",
    "shared/blobs/blob_writer_process.py:run": "threads of a process, whose death is seen",
    "services/processor/consumer.py:_commit": "one commit, awaited at once",
    "services/processor/in_flight.py:_receive": "wakes one record; what is due is decided then",
    "services/processor/in_flight.py:begin_waiting": "the beginning of records, held in flight",
    "services/processor/in_flight.py:_start_task": "the work on one record, retried until done",
    "services/processor/in_flight.py:add_partitions": "wakes suspects; does nothing if none is due",
    "services/processor/progress.py:advance": "progress of one attempt, which may be left out",
    "services/processor/workers.py:run": "ends one job that takes too long",
    "services/processor/workers.py:_in_background": "ends or replaces one process; logs failures",
    "services/status/api/socket.py:run": "tells one client, and ends with its connection",
    "services/status/api/sse.py:_answer": "sees that one client goes, and ends its answer",
    "services/status/live/awaiting.py:first_known": "two ways to a file, ended with the request",
    "services/status/replay/forked_pool.py:_begin": "ends a process of a replay with its parent",
    "services/status/live/ports.py:close_at_end_of": "ends one subscription when its token expires",
    "services/status/replay/rebuild.py:_fold_all": "a command: awaited by it",
    "services/status/commands/runs.py:start": "one new run, awaited by all who ask for it",
    "services/status/webhooks/courier.py:_consume": "one partition; the loop sees its failure",
    "services/upload/resumable/appending.py:_read_until_asked": "reads one request, awaited by it",
    "shared/http/protocol.py:_set_timer": "ends one connection that is too slow",
    "shared/http/slow_reader.py:begin": "ends one connection whose client does not read",
    "shared/http/websocket.py:data_received": "ends one connection that says nothing",
    "services/upload/coarse_timeouts.py:_schedule_check": "ends waits that take too long",
}
"""By file and function, why that is no loop."""


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[str, str, int]] = []
        self._functions: list[str] = ["module"]

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node.name)
        self.generic_visit(node)
        self._functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - as `ast` names it

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        name = getattr(called, "attr", getattr(called, "id", ""))
        if name in STARTERS:
            self.found.append((self._functions[-1], name, node.lineno))
        self.generic_visit(node)


def started() -> Iterator[tuple[str, str]]:
    """Where something is started in the background, and the line that does it."""
    for folder in ("services", "shared"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            finder = _Finder()
            finder.visit(ast.parse(path.read_text()))
            for function, name, line in finder.found:
                place = path.relative_to(ROOT).as_posix()
                yield f"{place}:{function}", f"{place}:{line}: {name}"


def test_nothing_is_started_in_the_background_without_a_supervisor_or_a_reason() -> None:
    unexplained = [line for place, line in started() if place not in ALLOWED]
    assert not unexplained, (
        f"Run it by a Supervisor, or say in ALLOWED what becomes of its failure: {unexplained}"
    )


def test_every_reason_is_still_needed() -> None:
    assert ALLOWED.keys() == {place for place, _ in started()}

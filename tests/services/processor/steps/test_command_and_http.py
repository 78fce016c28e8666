"""Programs and HTTP endpoints can be used as steps."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.processor.steps.command import command_step
from services.processor.steps.document import Document, Step
from services.processor.steps.http import http_step
from services.processor.steps.pipeline import run_steps
from shared.workerrors import WorkError
from tests.services.processor.steps.processing import Processing


class Answers(BaseHTTPRequestHandler):
    """Responds with the status given in the path and the reversed body."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        answer = body[::-1] + self.headers["content-type"].encode()
        self.send_response(int(self.path.strip("/")))
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(processing: Processing, step: Step, content: bytes = b"b\na\n") -> Document:
    path = processing.folder / "source"
    path.write_bytes(content)
    document = Document(path=path, content_type="a/b", size=len(content))
    return run_steps([step], document, processing.context)


def error(processing: Processing, step: Step) -> tuple[str, bool]:
    with pytest.raises(WorkError) as caught:
        run(processing, step)
    return caught.value.error_code, caught.value.retryable


def test_what_a_program_writes_is_kept_and_is_the_text(processing: Processing) -> None:
    step = command_step(
        ["sort", "{path}"], artifact="sorted.txt", content_type="text/plain", as_text=True
    )
    assert run(processing, step).text == "a\nb\n"
    assert processing.context.artifacts["sorted.txt"] == ("text/plain", b"a\nb\n")
    assert processing.context.step == "sort"


def test_a_program_may_use_the_scratch_directory(processing: Processing) -> None:
    run(processing, command_step(["cp", "{path}", "{scratch}/copy"]))
    assert (processing.context.scratch / "copy").read_bytes() == b"b\na\n"


def test_a_program_that_fails_is_told_with_its_last_words(processing: Processing) -> None:
    step = command_step(["sh", "-c", "echo no toner >&2; exit 3"])
    with pytest.raises(WorkError, match=r"sh failed with exit code 3\. no toner"):
        run(processing, step)
    assert error(processing, step) == ("command_failed", False)
    assert error(processing, command_step(["sh", "-c", "exit 75"])) == ("command_postponed", True)
    assert error(processing, command_step(["/no/such"])) == ("command_missing", False)


def test_what_an_endpoint_answers_is_kept_and_is_the_text(
    processing: Processing, endpoint: str
) -> None:
    step = http_step(f"{endpoint}/200", artifact="answer.txt", as_text=True)
    assert run(processing, step).text == "\na\nba/b"
    assert processing.context.artifacts["answer.txt"] == (
        "text/plain; charset=utf-8",
        b"\na\nba/b",
    )


@pytest.mark.parametrize(("status", "code"), [(503, "http_unavailable"), (422, "http_refused")])
def test_an_endpoint_that_refuses_is_asked_again_where_that_may_help(
    processing: Processing, endpoint: str, status: int, code: str
) -> None:
    assert error(processing, http_step(f"{endpoint}/{status}")) == (code, status == 503)


def test_an_endpoint_that_is_not_there_is_asked_again(processing: Processing) -> None:
    assert error(processing, http_step("http://127.0.0.1:9/")) == ("http_unavailable", True)

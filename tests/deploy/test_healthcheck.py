"""A container is healthy when the service in it is ready."""

import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from waybill.local.ports import HOST, free_port

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "healthcheck.py"


class Server6(HTTPServer):
    address_family = socket.AF_INET6


def check(port: int, host: str = HOST) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT)],
        env={"WAYBILL_PORT": str(port), "WAYBILL_HOST": host},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("answer", "code", "said"), [(200, 0, ""), (503, 1, "waiting for Kafka\n")]
)
def test_it_asks_the_service_whether_it_is_ready(answer: int, code: int, said: str) -> None:
    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer if self.path == "/health/ready" else 404)
            self.end_headers()
            self.wfile.write(b"waiting for Kafka")

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    for server_class, host, listens in (
        (HTTPServer, HOST, "0.0.0.0"),  # noqa: S104 - what a service is told
        (Server6, "::1", "::1"),
        (Server6, "::1", "::"),
    ):
        with server_class((host, 0), Service) as server:
            Thread(target=server.handle_request, daemon=True).start()
            checked = check(server.server_port, listens)
        assert (checked.returncode, checked.stderr) == (code, said)


def test_a_service_that_does_not_answer_is_not_ready() -> None:
    checked = check(free_port())
    assert checked.returncode == 1
    assert "ConnectionRefusedError" in checked.stderr

"""`waybill up` starts everything, restarts failed processes, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.stack import RunningStack, eventually
from waybill.local.parts import Parts


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of all processes that mention this stack's folder."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told:
            found.append((process / "cmdline").read_text())
    return found


def test_ctrl_c_stops_everything_and_the_next_start_goes_on_with_the_data(tmp_path: Path) -> None:
    stack = RunningStack.start(tmp_path, "--processors", "2")
    assert len(stack.pids["processor"]) == 2
    answer = httpx.post(
        f"{stack.upload_url}/api/files/upload", content=b"hello", params={"name": "hello.txt"}
    )
    assert answer.status_code == 202
    status_path = f"/api/files/{answer.json()['file_id']}/process/status"

    def is_completed() -> bool:
        document = httpx.get(stack.status_url + status_path).json()
        return bool(document["status"] == "completed")

    eventually(is_completed)
    assert processes_of(tmp_path)
    begin = time.monotonic()
    assert stack.stop() == 0, stack.output
    assert time.monotonic() - begin < 15
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "stack.json").exists()
    assert "Traceback" not in stack.output

    again = RunningStack.start(tmp_path)
    assert httpx.get(again.status_url + status_path).json()["status"] == "completed"
    again.stop(number=signal.SIGTERM)
    assert processes_of(tmp_path) == []


def test_a_service_that_is_killed_is_started_again(stack: RunningStack) -> None:
    before = stack.pids["upload"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: stack.pids["upload"] != before)
    assert f"upload (pid {before}) was killed by SIGKILL" in " ".join(stack.output.split())

    def answers() -> bool:
        try:
            return httpx.get(f"{stack.upload_url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers)


def test_a_stack_whose_own_process_is_killed_leaves_nothing(parts: Parts, tmp_path: Path) -> None:
    stack = RunningStack.start(tmp_path, WAYBILL_KAFKA=parts.kafka, WAYBILL_MONGODB=parts.mongodb)
    assert "kafka" not in stack.pids
    stack.process.kill()
    stack.process.wait()
    eventually(lambda: processes_of(tmp_path) == [], seconds=15)


def test_a_second_stack_in_the_same_folder_is_refused(stack: RunningStack) -> None:
    second = run_up(stack.folder)
    assert second.returncode == 1
    assert "already running" in second.stderr


def test_a_port_that_was_asked_for_and_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_up(tmp_path, "--port", str(port))
    assert refused.returncode == 1
    assert f"Port {port} is taken" in refused.stderr


def run_up(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waybill", "up", "--dir", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_can_be_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    with (tmp_path / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "waybill", "up", "--dir", str(tmp_path), "--port", "0"],
            stdout=log,
            stderr=log,
        )
        eventually(lambda: "starting Kafka" in (tmp_path / "up.log").read_text())
        process.send_signal(number)
        assert process.wait(20) == 0, (tmp_path / "up.log").read_text()
    assert processes_of(tmp_path) == []
    assert "Traceback" not in (tmp_path / "up.log").read_text()

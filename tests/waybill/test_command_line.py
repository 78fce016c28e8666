"""The command line prints readable output, and errors in one line."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.stack import RunningStack
from tests.support.stored import contents
from waybill.addresses import Addresses, find_addresses
from waybill.cli.formatting import human_duration, human_size
from waybill.cli.show import print_stuck
from waybill.client import Client
from waybill.local import ports
from waybill.local.ports import choose_port, is_free
from waybill.local.stack import LONGEST_DELAY, STABLE_AFTER, next_delay


def waybill(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waybill", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_upload_is_followed_to_its_end_and_shown(stack: RunningStack, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Waybill carries files.")
    folder = str(stack.folder)
    done = waybill("upload", str(path), "--wait", "--label", "team=a", "--dir", folder)
    assert done.returncode == 0, done.stderr
    file_id = done.stdout.split()[0]
    shown = waybill("status", file_id, "--dir", folder)
    assert "completed" in shown.stdout
    assert "notes.txt" in shown.stdout
    assert "uploaded\n" in shown.stdout
    assert "  attempt 1 of 3 started on " in shown.stdout
    assert "  completed at attempt 1 of 3 after " in shown.stdout
    told = waybill("events", file_id, "--dir", folder).stdout.splitlines()
    assert len(told) == 3
    assert shown.stdout.splitlines()[-3:] == told
    lines = json.loads(waybill("events", file_id, "--json", "--dir", folder).stdout)
    assert [line["type"] for line in lines][::2] == ["file.uploaded", "file.completed"]
    document = json.loads(waybill("status", file_id, "--json", "--dir", folder).stdout)
    assert document["labels"] == {"team": "a"}


def test_names_are_told_as_they_are(stack: RunningStack, tmp_path: Path) -> None:
    path, folder = tmp_path / "[bold]a[x].txt", str(stack.folder)
    path.write_text("Brackets are no markup.")
    done = waybill("upload", str(path), "[/red]", "--wait", "--dir", folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{path.name}\n" in done.stdout
    assert "✗ [/red]: " in done.stdout
    assert "'[x]'" in waybill("status", "[x]", "--dir", folder).stderr


def test_where_nobody_sees_a_table_each_state_is_a_line(
    stack: RunningStack, tmp_path: Path
) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"seconds": 100, "steps": 100}')
    folder, demo = str(stack.folder), "application/vnd.waybill.demo+json"
    file_id = waybill("upload", str(path), "--type", demo, "--dir", folder).stdout.split()[0]
    command = [sys.executable, "-m", "waybill", "watch", file_id, "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        states: list[str] = []
        for line in watching.stdout:
            assert line.startswith(f"{file_id}  ")
            state = line.split()[1]
            if state == "processing" and state not in states:
                waybill("cancel", file_id, "--dir", folder)
            states.append(state)
            if state == "cancelled":
                break
        watching.kill()
    assert set(states) - {"pending"} == {"processing", "cancelled"}


def test_who_would_write_to_a_directory_directly_is_told_what_to_do(
    stack: RunningStack, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Waybill carries files.")
    refused = waybill("upload", str(path), "--direct", "--dir", str(stack.folder))
    assert refused.returncode == 1
    assert "POST /api/files/upload" in " ".join(refused.stdout.split())


def test_the_numbers_of_all_files_are_shown(stack: RunningStack) -> None:
    shown = waybill("stats", "--dir", str(stack.folder))
    assert shown.returncode == 0, shown.stderr
    assert "completed" in shown.stdout
    assert "/s begun" in shown.stdout
    assert "processor: " in shown.stdout
    numbers = json.loads(waybill("stats", "--json", "--dir", str(stack.folder)).stdout)
    assert numbers["files"].keys() == {"pending", "processing", "completed", "failed", "cancelled"}


def test_files_are_listed_by_what_they_are(stack: RunningStack, tmp_path: Path) -> None:
    path, folder = tmp_path / "ledger.txt", str(stack.folder)
    path.write_text("All that came through the door.")
    done = waybill("upload", str(path), "--wait", "--label", "kind=ledger", "--dir", folder)
    file_id = done.stdout.split()[0]
    wanted = ["--label", "kind=ledger", "--status", "completed", "--status", "failed"]
    listed = waybill("list", *wanted, "--dir", folder)
    while not listed.stdout:  # The list comes from MongoDB, which lags slightly.
        listed = waybill("list", *wanted, "--dir", folder)
    assert listed.stdout.splitlines()[0] == f"{file_id}  completed  31 B  ledger.txt"
    none = waybill("list", *wanted, "--name", "no such name", "--json", "--dir", folder)
    assert json.loads(none.stdout) == []
    refused = waybill("list", "--sort", "size", "--dir", folder)
    assert refused.returncode == 2
    assert "sort" in refused.stderr


def test_files_that_are_stuck_are_listed_with_their_reasons(stack: RunningStack) -> None:
    none = waybill("stuck", "--dir", str(stack.folder))
    assert (none.returncode, none.stdout) == (0, "No file is stuck.\n")
    console = Console(record=True, width=60)
    since = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    file = {"file_id": "f" * 36, "name": "a.pdf", "status": "pending", "silent_since": since}
    print_stuck([{**file, "reason": "Nothing is begun."}], console)
    head, reason = console.export_text().splitlines()
    assert head == f"{'f' * 36}  pending, silent for 2 h 0 min  a.pdf"
    assert reason == "  Nothing is begun."


def test_a_file_that_fails_and_one_that_is_missing_make_the_command_fail(
    stack: RunningStack, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"then": "fail"}')
    demo = "application/vnd.waybill.demo+json"
    done = waybill("upload", str(bad), "--wait", "--type", demo, "--dir", str(stack.folder))
    assert done.returncode == 1
    assert "failed" in done.stdout
    missing = waybill("upload", str(tmp_path / "none"), "--dir", str(stack.folder))
    assert missing.returncode == 1
    assert "No such file" in missing.stdout


def test_a_file_is_cancelled_and_retried_and_what_cannot_be_done_is_told(
    stack: RunningStack, tmp_path: Path
) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"seconds": 60}')
    folder, demo = str(stack.folder), "application/vnd.waybill.demo+json"
    file_id = waybill("upload", str(path), "--type", demo, "--dir", folder).stdout.split()[0]
    done = waybill("cancel", file_id, "--reason", "a mistake", "--dir", folder)
    assert (done.returncode, done.stdout.split()[0]) == (0, file_id)
    with Client(find_addresses(folder=stack.folder)) as client:
        assert client.wait(file_id, seconds=30)["status"] == "cancelled"
        retried = waybill("retry", file_id, "--dir", folder)
        assert (retried.returncode, retried.stdout.split()) == (
            0,
            [file_id, *["starts", "run", "2"]],
        )
        client.cancel(file_id)
        assert client.wait(file_id, seconds=30)["status"] == "cancelled"
    again = waybill("cancel", file_id, "nope", "--dir", folder)
    assert again.returncode == 1
    assert "The file is cancelled" in again.stderr
    assert "No file has the id 'nope'" in again.stderr


def test_a_file_is_shared_and_unshared(stack: RunningStack, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some words")
    folder = str(stack.folder)
    file_id = waybill("upload", str(path), "--dir", folder).stdout.split()[0]
    for name in ("carl", "bob/o"):
        done = waybill("share", file_id, "--with", name, "--dir", folder)
    assert done.stdout.strip() == f"{file_id}  is shared with bob/o, carl", done.stderr
    assert waybill("shares", file_id, "--dir", folder).stdout == done.stdout
    done = waybill("unshare", file_id, "nope", "--with", "bob/o", "--dir", folder)
    assert done.stdout.strip() == f"{file_id}  is shared with carl"
    assert (done.returncode, "nope" in done.stderr) == (1, True)
    done = waybill("unshare", file_id, "--with", "carl", "--dir", folder)
    assert done.stdout.strip() == f"{file_id}  is shared with nobody"


def test_a_file_is_deleted_while_it_is_worked_on(stack: RunningStack, tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"seconds": 60}')
    folder, demo = str(stack.folder), "application/vnd.waybill.demo+json"
    file_id = waybill("upload", str(path), "--type", demo, "--dir", folder).stdout.split()[0]
    assert file_id in contents(stack.folder / "blobs")
    done = waybill("delete", file_id, "--reason", "a mistake", "--dir", folder)
    assert (done.returncode, done.stdout.split()) == (0, [file_id, "is", "deleted"])
    again = waybill("delete", file_id, "--dir", folder)
    assert again.returncode == 1
    assert "was deleted" in again.stderr
    deadline = time.monotonic() + 20
    while file_id in contents(stack.folder / "blobs") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert file_id not in contents(stack.folder / "blobs")


def test_a_file_that_was_given_up_is_found_among_the_dead_and_redriven(
    stack: RunningStack, tmp_path: Path
) -> None:
    path = tmp_path / "crash.json"
    path.write_text('{"then": "crash"}')
    folder, demo = str(stack.folder), "application/vnd.waybill.demo+json"
    failed = waybill("upload", str(path), "--wait", "--type", demo, "--dir", folder)
    file_id = failed.stdout.split()[0]
    with Client(find_addresses(folder=stack.folder)) as client:
        letters = {each["file_id"]: each["id"] for each in client.dead_letters(code="given_up")}
    letter = letters[file_id]
    listed = waybill("dead", "list", "--code", "given_up", "--dir", folder)
    assert letter in listed.stdout
    shown = waybill("dead", "show", letter, "--dir", folder)
    assert file_id in shown.stdout
    assert "worker_crashed: " in shown.stdout
    redriven = waybill("dead", "redrive", letter, "9-9", "--dir", folder)
    assert redriven.returncode == 1
    assert f"{file_id} starts its next run" in redriven.stdout
    assert "Dead letter 9-9 does not exist" in redriven.stderr
    assert json.loads(waybill("status", file_id, "--json", "--dir", folder).stdout)["run"] == 2


def test_an_unknown_file_is_told_in_one_line(stack: RunningStack) -> None:
    told = waybill("status", "nope", "--dir", str(stack.folder))
    assert told.returncode == 2
    assert "No file has the id 'nope'" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_waybill_that_is_not_there_is_told_in_one_line() -> None:
    told = waybill("status", "x", "--url", "http://127.0.0.1:1")
    assert told.returncode == 2
    assert "No Waybill answers" in told.stderr
    assert "make run" in told.stderr


def test_addresses_come_from_the_argument_then_the_environment_then_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAYBILL_STATUS_URL", raising=False)
    monkeypatch.delenv("WAYBILL_UPLOAD_URL", raising=False)
    assert find_addresses(folder=tmp_path) == Addresses()
    (tmp_path / "stack.json").write_text('{"status_url": "http://s", "upload_url": "http://u"}')
    assert find_addresses(folder=tmp_path) == Addresses(status="http://s", upload="http://u")
    monkeypatch.setenv("WAYBILL_STATUS_URL", "http://e/")
    assert find_addresses(folder=tmp_path).status == "http://e"
    assert find_addresses(status="http://a", folder=tmp_path).status == "http://a"


def test_the_pause_before_a_restart_doubles_up_to_its_limit_and_is_forgotten() -> None:
    delays = [0.0]
    for _ in range(10):
        delays.append(next_delay(delays[-1], lived=1.0))
    assert delays[1:4] == [0.5, 1.0, 2.0]
    assert delays[-1] == LONGEST_DELAY
    assert next_delay(LONGEST_DELAY, lived=STABLE_AFTER) == 0.5


def test_a_free_port_is_chosen_where_none_was_asked_for() -> None:
    told: list[str] = []
    assert is_free(choose_port(0, 8000, told.append))
    assert not told


def test_no_port_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORT_RANGE", range(20_000, 20_200))
    chosen = [ports.free_port() for _ in range(30)]
    assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_are_told_as_people_say_them(size: int | None, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250 ms"), (2.5, "2.5 s"), (75, "1 min 15 s"), (3700, "1 h 1 min")]
)
def test_durations_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text

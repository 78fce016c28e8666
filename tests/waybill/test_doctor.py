"""`waybill doctor` and `waybill keys` with a running stack."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.stack import RunningStack
from tests.waybill.test_command_line import waybill
from waybill.addresses import SEAL_FILE
from waybill.cli import doctor
from waybill.cli.doctor import CheckContext, Finding, check_context, examine

NOWHERE = "http://127.0.0.1:9"


def test_the_doctor_tells_the_rung_of_this_machine_and_of_every_processor(
    stack: RunningStack,
) -> None:
    done = waybill("doctor", "--json", "--dir", str(stack.folder))
    found = {each["check"]: each for each in json.loads(done.stdout)}
    here = found["isolation on this machine"]
    assert found["isolation of processor 1"]["detail"] in here["detail"]
    assert found["status"]["state"] == found["upload"]["state"] == "ok"
    assert done.returncode == int(any(each["state"] == "failed" for each in found.values()))


def test_the_doctor_names_a_service_that_does_not_answer(tmp_path: Path) -> None:
    done = waybill(
        *("doctor", "--dir", str(tmp_path), "--url", NOWHERE, "--processor", NOWHERE),
    )
    assert done.returncode == 1
    assert "does not answer" in done.stdout


@pytest.mark.parametrize(
    ("skew", "state", "said"),
    [
        ("0.0", "ok", "within 5 s"),
        ("-3000.0", "warning", "3000 s behind Kafka's clock"),
        ("12.0", "warning", "12 s ahead of Kafka's clock"),
    ],
)
def test_a_clock_that_is_off_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, skew: str, state: str, said: str
) -> None:
    metrics = f"# TYPE waybill_clock_skew_seconds gauge\nwaybill_clock_skew_seconds {skew}\n"
    answer = httpx.Response(200, text=metrics)
    monkeypatch.setattr(httpx, "get", lambda *_, **__: answer)
    context = check_context({}, environment={}, status="here", upload="there", processors=[])
    found = list(doctor.clocks(context))
    assert [each.check for each in found] == ["clock of status", "clock of upload"]
    assert {each.state for each in found} == {state}
    assert all(said in each.detail for each in found)


def test_a_check_is_a_function_and_a_line_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def skew(context: CheckContext) -> Iterator[Finding]:
        yield Finding(check="clock", state="warning", detail=context.services["status"])

    monkeypatch.setattr(doctor, "CHECKS", (skew,))
    context = check_context({}, environment={}, status="here", upload="there", processors=[])
    assert examine(context) == [Finding(check="clock", state="warning", detail="here")]


def test_no_processor_has_the_secrets_that_make_keys(stack: RunningStack) -> None:
    secret = (stack.folder / SEAL_FILE).read_text()
    assert (stack.folder / SEAL_FILE).stat().st_mode & 0o077 == 0

    def environment(pid: int) -> str:
        return Path(f"/proc/{pid}/environ").read_bytes().decode()

    if os.getuid() != 0:
        pytest.skip("only root reads the environment of a processor, which is not dumpable")
    assert secret in environment(stack.pids["status"])
    assert secret in environment(stack.pids["upload"])
    for pid in stack.pids["processor"]:
        assert secret not in environment(pid)
        assert "WAYBILL_SEAL_SECRET" not in environment(pid)


def test_keys_that_the_command_line_makes_are_sealed(stack: RunningStack) -> None:
    folder = str(stack.folder)
    assert waybill("keys", "create", "ci", "--dir", folder).returncode == 0
    (record,) = (stack.folder / "blobs" / "keys").iterdir()
    assert '"seal":"' in record.read_text()
    assert "ci" in waybill("keys", "list", "--dir", folder).stdout
    assert "already" in waybill("keys", "sign", "--dir", folder).stdout
    record.write_text(record.read_text().replace('"note":""', '"note":"forged"'))
    assert "ci" not in waybill("keys", "list", "--dir", folder).stdout
    assert record.stem in waybill("keys", "sign", "--dir", folder).stdout
    assert "forged" in waybill("keys", "list", "--dir", folder).stdout
    assert waybill("keys", "revoke", record.stem, "--dir", folder).returncode == 0

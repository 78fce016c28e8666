"""What stands in a service's log, whatever its clients sent."""

import logging
import sys

import pytest

from shared.settings import Settings
from shared.telemetry import configure_logging


@pytest.fixture
def service_log(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],  # noqa: ARG001 - before the log takes standard error
) -> logging.Logger:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure_logging(Settings())
    return logging.getLogger("waybill.test")


def test_no_text_of_a_client_forges_a_line(
    service_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    service_log.warning(
        "refused %s", "a.txt\n2026-01-01 00:00:00,000 ERROR   root: \x00\x1b[31m\u2028x"
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a.txt\n2026-01-01" in line
    assert r"\x00\x1b[31m\u2028x" in line


def test_a_traceback_keeps_its_lines_and_no_control_characters(
    service_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        raise ValueError("odd\x00\x9b")
    except ValueError:
        service_log.error("it failed", exc_info=sys.exc_info())
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert len(told.splitlines()) > 3
    assert r"odd\x00\x9b" in told

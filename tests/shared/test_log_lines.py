"""Log lines contain no tickets, and clients cannot forge them."""

import logging
import sys
from typing import Any

from shared.telemetry import TextFormatter


def line(message: str, *arguments: object, error: Any = None) -> str:
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, message, arguments, error)
    return TextFormatter("%(levelname)s %(name)s: %(message)s").format(record)


def test_no_text_of_a_client_forges_a_line() -> None:
    output = line("refused %s", "a.txt\nERROR root: \x00\x1b[31m\u2028x")
    assert output == r"ERROR a: refused a.txt\nERROR root: \x00\x1b[31m\u2028x"


def test_a_traceback_keeps_its_lines_and_has_no_control_characters() -> None:
    try:
        raise ValueError("odd\x00\x9b")
    except ValueError:
        output = line("it failed", error=sys.exc_info())
    assert output.splitlines()[:2] == ["ERROR a: it failed", "Traceback (most recent call last):"]
    assert output.endswith(r"ValueError: odd\x00\x9b")

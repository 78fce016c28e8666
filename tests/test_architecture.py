"""The rules of who may import whom, written in `pyproject.toml`, hold."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400


def test_the_import_rules_hold() -> None:
    # In a process of its own: it disables the loggers of the one that it runs in.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    modules = [
        path
        for folder in ("shared", "services", "waybill")
        for path in (ROOT / folder).rglob("*.py")
    ]
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in modules
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert not too_long, f"split these: {too_long}"

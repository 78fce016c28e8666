"""The rules of who may import whom, written in `pyproject.toml`, hold."""

from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400


def test_the_import_rules_hold() -> None:
    assert lint_imports(str(ROOT / "pyproject.toml"), cache_dir=None) == EXIT_STATUS_SUCCESS


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

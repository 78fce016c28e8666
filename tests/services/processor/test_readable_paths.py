"""Workers can read code, but nothing beside it."""

import sys
from pathlib import Path

import pytest

from services.processor.isolation.configured import isolation_of
from services.processor.isolation.paths import readable_paths
from services.processor.settings import ProcessorSettings


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory of code with other files beside it."""
    for name in ("plugin/__init__.py", "single.py", ".env", "notes.txt", ".waybill/seal.secret"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for name in ("data/kafka/log", "plugin/blobs/keys"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def below(folder: Path, paths: tuple[str, ...]) -> set[str]:
    return {
        str(Path(each).relative_to(folder)) for each in paths if Path(each).is_relative_to(folder)
    }


def test_of_a_directory_of_code_only_the_code_is_readable(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(checkout))
    assert below(checkout, readable_paths([])) == {"plugin", "single.py"}


def test_what_is_hidden_inside_of_code_stays_hidden(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(checkout))
    found = below(checkout, readable_paths([checkout / "plugin" / "blobs"]))
    assert found == {"plugin/__init__.py", "single.py"}


def test_a_directory_in_which_the_pod_was_merely_started_is_not_readable(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [str(checkout), *sys.path])
    assert below(checkout, readable_paths([])) == set()
    __import__("single")
    try:
        assert below(checkout, readable_paths([])) == {"single.py"}
    finally:
        del sys.modules["single"]


def test_a_path_that_is_named_is_readable_unless_it_is_hidden(checkout: Path) -> None:
    named = str(checkout / "data")
    assert below(checkout, readable_paths([], [named])) == {"data"}
    assert below(checkout, readable_paths([checkout / "data" / "kafka"], [named])) == set()
    assert below(checkout, readable_paths([checkout], [named])) == set()


def test_a_processor_hides_its_blob_store_its_secrets_and_its_scratch(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_SECRETS", str(checkout / ".waybill"))
    settings = ProcessorSettings(
        blobs=str(checkout / "plugin" / "blobs"), worker_paths=(str(checkout),)
    )
    found = below(checkout, isolation_of(settings, checkout / "data").readable)
    assert found == {"plugin/__init__.py", "single.py", ".env", "notes.txt"}


def test_no_secret_of_the_machine_is_readable() -> None:
    found = [Path(each) for each in readable_paths([])]
    for secret in ("/etc/shadow", "/etc/ssh", "/root/.ssh", "/home", "/run", "/var", "/proc/1"):
        assert not any(Path(secret).is_relative_to(each) for each in found), secret

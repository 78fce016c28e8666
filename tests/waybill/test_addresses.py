"""Commands find the addresses and the secret of a local stack."""

import json
from pathlib import Path

import pytest

from waybill.addresses import SEAL_FILE, stack_environment

SECRET = "5" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stopped stack."""
    for name in ("WAYBILL_BLOBS", "WAYBILL_SEAL_SECRET", "WAYBILL_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / SEAL_FILE).write_text(SECRET)
    return tmp_path


def test_a_stack_that_is_stopped_keeps_its_blob_store_and_its_secret(folder: Path) -> None:
    environment = stack_environment(folder)
    assert environment["WAYBILL_BLOBS"] == str(folder / "blobs")
    assert environment["WAYBILL_SEAL_SECRET"] == SECRET


def test_the_same_place_in_another_spelling_has_the_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WAYBILL_BLOBS", "./blobs")
    assert stack_environment(folder)["WAYBILL_SEAL_SECRET"] == SECRET


@pytest.mark.parametrize("blobs", ["s3://bucket/prefix", "/elsewhere"])
@pytest.mark.parametrize("is_running", [True, False])
def test_another_blob_store_has_its_own_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch, blobs: str, is_running: bool
) -> None:
    if is_running:
        running = {"blobs": str(folder / "blobs"), "kafka": "k", "mongodb": "m"}
        (folder / "stack.json").write_text(json.dumps(running))
    monkeypatch.setenv("WAYBILL_BLOBS", blobs)
    assert "WAYBILL_SEAL_SECRET" not in stack_environment(folder)


def test_a_running_stack_says_where_its_blobs_are(folder: Path) -> None:
    (folder / "stack.json").write_text(json.dumps({"blobs": "s3://bucket/prefix"}))
    environment = stack_environment(folder)
    assert environment["WAYBILL_BLOBS"] == "s3://bucket/prefix"
    assert environment["WAYBILL_SEAL_SECRET"] == SECRET

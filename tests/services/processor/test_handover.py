"""A worker gets its file for any store, disk and umask."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.processor.channel import MAX_CONTENT
from services.processor.handover import prepare
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.packs import PackWriter
from shared.errors import BlobStoreUnavailableError
from tests.services.processor.jobs import demo, packed

LARGE = "x" * MAX_CONTENT


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PackWriter]:
    writer = PackWriter(tmp_path / "blobs")
    yield writer
    writer.close()


async def test_a_slice_of_a_store_that_is_not_mounted_is_not_missing(
    tmp_path: Path, writer: PackWriter
) -> None:
    job = packed(demo(tmp_path / "job"), writer)
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    with pytest.raises(BlobStoreUnavailableError):
        await prepare(job)
    (tmp_path / "blobs").mkdir()
    with pytest.raises(BlobStoreUnavailableError):
        await prepare(job)
    (tmp_path / "blobs" / "packs").mkdir()
    with pytest.raises(BlobMissingError):
        await prepare(job)


@pytest.mark.parametrize("is_packed", [True, False])
async def test_other_users_may_read_a_large_file_whatever_the_umask_is(
    tmp_path: Path, writer: PackWriter, is_packed: bool
) -> None:
    job = demo(tmp_path / "job", padding=LARGE)
    assert isinstance(job.source, str)
    Path(job.source).chmod(0o600)  # Forces a copy instead of a link.
    job = packed(job, writer) if is_packed else job.model_copy(update={"scratch": f"{tmp_path}/a"})
    inbox = tmp_path / "in"
    inbox.mkdir()
    before = os.umask(0o077)
    try:
        (await prepare(job)).create_link(inbox)
    finally:
        os.umask(before)
    (given,) = inbox.iterdir()
    assert stat.S_IMODE(given.stat().st_mode) == 0o444


async def test_a_copy_that_does_not_fit_on_the_disk_does_not_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = demo(tmp_path / "job", padding=LARGE).model_copy(update={"scratch": f"{tmp_path}/a"})
    assert isinstance(job.source, str)
    Path(job.source).chmod(0o600)  # Forces a copy instead of a link.
    full = SimpleNamespace(f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(OSError, match="4096 bytes free") as refused:
        await prepare(job)
    assert refused.value.errno == errno.ENOSPC
    assert list((tmp_path / "a").iterdir()) == []


async def test_a_name_that_cannot_be_taken_away_costs_no_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = demo(tmp_path / "job", padding=LARGE).model_copy(update={"scratch": f"{tmp_path}/a"})
    handover = await prepare(job)
    inbox = tmp_path / "in"
    inbox.mkdir()
    handover.create_link(inbox)

    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as refusing:
        refusing.setattr(Path, "unlink", refuse)
        handover.remove_link()
    assert "Read-only file system" in caplog.text

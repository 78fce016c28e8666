"""Faults of the machine are recognized and not blamed on the document."""

import asyncio
import errno
import hashlib
import os
import time
from collections import namedtuple
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.processor import source as sources_module
from services.processor.death import cause_of_death, crash_of, is_from_outside
from services.processor.failures import KINDS, failure
from services.processor.machine import OF_POD, fault, fault_of_pod, system_error
from services.processor.source import Content, ContentChangedError, Sources
from services.processor.space import ScratchSpace
from services.processor.verdict import MAX_POSTPONED, DiskEvidence, blame_machine, judge
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.errors import BlobStoreUnavailableError
from shared.events.facts import Source
from shared.settings import Settings
from shared.workerrors import PermanentError
from tests.support.loops import one_run

FINE, FULL = DiskEvidence(), DiskEvidence(was_full=True)
CORRUPT = failure("corrupt_document")


def wrapped(cause: BaseException) -> BaseException:
    """Wrap an error the way a step does."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise PermanentError("corrupt_document", "The file is damaged.") from error
    except PermanentError as error:
        return error


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "x"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "x"), errno.EDQUOT),
        (wrapped(OSError(errno.EIO, "x")), errno.EIO),
        (wrapped(wrapped(OSError(errno.ESTALE, "x"))), errno.ESTALE),
        (wrapped(OSError(errno.EROFS, "what is not the worker's own")), None),
        (PermanentError("command_failed", "/dev/tty: No such device or address"), None),
        (wrapped(RuntimeError("IO error: No space left on device (os error 28)")), errno.ENOSPC),
        (PermanentError("command_failed", "tool: No space left on device"), errno.ENOSPC),
        (wrapped(ValueError("bad header")), None),
        (OSError(errno.ENOENT, "x"), None),
        (OSError("cannot identify image file"), None),
        (wrapped(RuntimeError("(os error 2)")), None),
    ],
)
def test_a_fault_of_the_machine_is_found_behind_a_verdict(
    error: BaseException, number: int | None
) -> None:
    assert system_error(error) == number


def test_an_error_that_is_its_own_cause_ends_the_search() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert system_error(first) is None


@pytest.mark.parametrize("number", sorted({errno.EIO, errno.ENFILE} | OF_POD))
def test_what_the_pod_lacks_is_retryable_and_names_the_machine(number: int) -> None:
    found = fault_of_pod(OSError(number, os.strerror(number)))
    assert found is not None
    assert (found.code, found.retryable) == ("machine_failed", True)
    assert errno.errorcode[number] in found.message


def test_a_pod_without_memory_blames_the_machine() -> None:
    found = fault_of_pod(MemoryError())
    assert found is not None
    assert found.code == "machine_failed"
    assert fault_of_pod(RuntimeError("can't start new thread")) == fault(errno.EAGAIN)
    assert fault_of_pod(ValueError("a bug")) is None
    assert fault(errno.ENOSPC).code == "disk_full"


class TestVerdict:
    def test_on_a_full_disk_no_document_is_corrupt(self) -> None:
        verdict = judge(CORRUPT, disk=FULL)
        assert (verdict.error.code, verdict.error.retryable) == ("disk_full", True)
        assert not verdict.counts
        assert "corrupt_document" in verdict.error.message

    def test_with_room_it_is(self) -> None:
        verdict = judge(CORRUPT, disk=FINE)
        assert (verdict.error, verdict.counts) == (CORRUPT, True)

    def test_a_full_disk_never_counts_however_long_it_is_full(self) -> None:
        assert not judge(failure("disk_full"), disk=FULL, postponed=10_000).counts
        assert not blame_machine(failure("storage_full"), postponed=10_000).counts

    def test_a_file_that_fills_the_disk_itself_must_end(self) -> None:
        filled = DiskEvidence(was_full=True, caused_by_file=True)
        assert judge(failure("disk_full"), disk=filled).counts
        assert not judge(failure("disk_full"), disk=FINE).counts
        assert judge(failure("disk_full"), disk=FINE, postponed=MAX_POSTPONED).counts

    def test_work_that_fills_the_disk_and_tidies_up_must_end(self) -> None:
        tidy = DiskEvidence(was_full=True, has_room_again=True)
        for error in (failure("disk_full"), CORRUPT):
            assert not judge(error, disk=tidy, postponed=MAX_POSTPONED - 1).counts
            verdict = judge(error, disk=tidy, postponed=MAX_POSTPONED)
            assert (verdict.error.code, verdict.counts) == ("disk_full", True)
            assert not judge(error, disk=FULL, postponed=MAX_POSTPONED).counts

    def test_a_file_that_provokes_faults_of_the_machine_must_end(self) -> None:
        broken = failure("machine_failed")
        assert not judge(broken, disk=FINE, postponed=MAX_POSTPONED - 1).counts
        assert judge(broken, disk=FINE, postponed=MAX_POSTPONED).counts

    def test_the_second_death_of_the_same_kind_is_the_documents(self) -> None:
        for first, second, is_final in (
            (None, "SIGSEGV", False),
            ("SIGABRT", "SIGSEGV", False),
            ("SIGSEGV", "SIGSEGV", True),
            ("exit code 127", "exit code 127", True),
        ):
            error = failure("segmentation_fault")
            verdict = judge(error, disk=FINE, crash=second, last_crash=first)
            assert (verdict.error.code == "document_crashes_reader") is is_final
            assert verdict.error.retryable is not is_final
            assert verdict.crash == second

    def test_a_crash_on_a_full_disk_is_no_evidence(self) -> None:
        verdict = judge(
            failure("segmentation_fault"), disk=FULL, crash="SIGBUS", last_crash="SIGBUS"
        )
        assert (verdict.error.code, verdict.counts, verdict.crash) == ("disk_full", False, None)

    def test_a_worker_that_somebody_ended_costs_nothing(self) -> None:
        assert not judge(failure("worker_crashed"), disk=FINE, from_outside=True).counts


@pytest.mark.parametrize(
    ("code", "crash", "outside"),
    [
        (-6, "SIGABRT", False),
        (-11, "SIGSEGV", False),
        (-31, "SIGSYS", False),
        (-9, None, False),
        (-15, None, True),
        (-35, None, False),
        (127, "exit code 127", False),
        (255, None, True),
        (None, None, True),
    ],
)
def test_a_death_is_compared_only_if_the_process_died_of_its_own_doing(
    code: int | None, crash: str | None, outside: bool
) -> None:
    assert (crash_of(code), is_from_outside(code)) == (crash, outside)
    assert cause_of_death(code).code in KINDS


Disk = namedtuple("Disk", "f_bavail f_blocks f_frsize f_files f_favail")


class TestScratchSpace:
    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
        """A disk of 1 GiB whose figures a test can change."""
        figures = {"f_bavail": 1 << 18, "f_blocks": 1 << 18, "f_frsize": 4096, "f_files": 10}
        figures["f_favail"] = 5
        monkeypatch.setattr(os, "statvfs", lambda _: Disk(**figures))
        return figures

    def test_is_full_before_the_last_byte_and_says_so(
        self, disk: dict[str, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        space = ScratchSpace(tmp_path)
        began = time.monotonic()
        assert space.unavailable_reason is None
        disk["f_bavail"] = 1000
        space.check()
        assert space.unavailable_reason is not None
        assert "4000 KiB of 1048576 KiB are free" in space.unavailable_reason
        assert "no new work" in caplog.text
        assert (space.was_full_since(began), space.was_empty_since(began)) == (True, False)
        disk["f_bavail"] = 1
        space.check()
        assert space.was_empty_since(began)

    def test_remembers_that_it_was_full_after_somebody_has_made_room(
        self, disk: dict[str, int], tmp_path: Path
    ) -> None:
        space, rooms = ScratchSpace(tmp_path), []
        space.on_space = lambda: rooms.append(1)
        began = time.monotonic()
        disk["f_bavail"] = 0
        space.check()
        disk["f_bavail"] = 1 << 17
        space.check()
        assert (space.unavailable_reason, rooms) == (None, [1])
        assert space.was_full_since(began)
        assert not space.was_full_since(time.monotonic())

    def test_without_free_names_is_full(self, disk: dict[str, int], tmp_path: Path) -> None:
        disk["f_favail"] = 0
        assert ScratchSpace(tmp_path).unavailable_reason is not None

    @pytest.mark.usefixtures("disk")
    def test_that_a_quota_refuses_is_full_until_it_takes_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space = ScratchSpace(tmp_path)

        def refuse(*_: object) -> int:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

        with monkeypatch.context() as refusing:
            refusing.setattr(os, "writev", refuse)
            space.check(thoroughly=True)
            assert space.unavailable_reason is not None
            assert "quota" in space.unavailable_reason
        space.check()
        assert space.unavailable_reason is not None
        space.check(thoroughly=True)
        assert space.unavailable_reason is None
        assert list(tmp_path.iterdir()) == []

    def test_that_is_small_and_empty_has_room(self, disk: dict[str, int], tmp_path: Path) -> None:
        disk["f_blocks"] = disk["f_bavail"] = 8
        assert ScratchSpace(tmp_path).unavailable_reason is None

    def test_is_not_looked_at_for_each_of_many_short_files(
        self, disk: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space, now = ScratchSpace(tmp_path), time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        space.check()
        disk["f_bavail"] = 0
        space.check_if_stale()
        assert space.unavailable_reason is None
        now += 1
        space.check_if_stale()
        assert space.unavailable_reason is not None

    async def test_is_watched(self, disk: dict[str, int], tmp_path: Path) -> None:
        space = ScratchSpace(tmp_path)
        watching = asyncio.create_task(space.watch(one_run()))
        disk["f_bavail"] = 0
        async with asyncio.timeout(10):
            while space.unavailable_reason is None:
                await asyncio.sleep(0.01)
        watching.cancel()


class Faulty:
    """A store behind a network that corrupts data."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)

    def packs_of(self, _: str) -> None:
        return None

    def local_path(self, _: str) -> None:
        return None

    async def stream(self, _: str) -> AsyncIterator[bytes]:
        answer = self._answers.pop(0)

        async def pieces() -> AsyncIterator[bytes]:
            yield answer[:3]
            yield answer[3:]

        return pieces()


def announced(content: bytes = b"content", *, hashed: bool = True) -> Source:
    return Source(
        blob="sources/x",
        content_type="text/plain",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest() if hashed else None,
    )


class TestSource:
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        return open_blob_store(Settings(blobs=str(tmp_path / "blobs"), blobs_fsync=False))

    async def test_that_comes_damaged_is_fetched_again(self, tmp_path: Path) -> None:
        sources = Sources(Faulty(b"c0ntent", b"content"))  # type: ignore[arg-type]
        path = await sources.fetch(announced(), str(tmp_path / "folder"))
        assert isinstance(path, str)
        assert Path(path).read_bytes() == b"content"

    @pytest.mark.parametrize("hashed", [True, False])
    async def test_that_comes_short_each_time_in_another_way_is_the_stores_fault(
        self, tmp_path: Path, hashed: bool
    ) -> None:
        sources = Sources(Faulty(b"con", b"conte"))  # type: ignore[arg-type]
        with pytest.raises(BlobStoreUnavailableError):
            await sources.fetch(announced(hashed=hashed), str(tmp_path / "folder"))

    async def test_that_does_not_fit_on_the_disk_does_not_fill_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: Disk(1, 1 << 20, 4096, 10, 5))
        source = announced(bytes(4097))
        with pytest.raises(OSError, match="4097 bytes needed, 4096 bytes free") as refused:
            await Sources(Faulty()).fetch(source, str(tmp_path / "a"))  # type: ignore[arg-type]
        assert refused.value.errno == errno.ENOSPC
        assert list((tmp_path / "a").iterdir()) == []

    async def test_that_comes_twice_as_another_one_has_changed(self, tmp_path: Path) -> None:
        sources = Sources(Faulty(b"c0ntent", b"c0ntent"))  # type: ignore[arg-type]
        with pytest.raises(ContentChangedError):
            await sources.fetch(announced(), str(tmp_path / "folder"))

    async def test_in_a_directory_has_its_length(self, blobs: BlobStore, tmp_path: Path) -> None:
        await blobs.put("sources/x", b"content")
        path = await Sources(blobs).fetch(announced(), str(tmp_path))
        assert path == blobs.local_path("sources/x")
        await blobs.put("sources/x", b"cont")
        with pytest.raises(ContentChangedError):
            await Sources(blobs).fetch(announced(), str(tmp_path))

    async def test_in_a_directory_that_is_not_mounted_is_not_missing(
        self, blobs: BlobStore, tmp_path: Path
    ) -> None:
        with pytest.raises(BlobStoreUnavailableError):
            await Sources(blobs).fetch(announced(), str(tmp_path))
        await blobs.put("sources/other", b"x")
        with pytest.raises(BlobMissingError):
            await Sources(blobs).fetch(announced(), str(tmp_path))

    async def test_that_a_reader_blamed_is_compared(
        self, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sources, folder = Sources(blobs), tmp_path / "attempt"
        await blobs.put("sources/x", b"content")
        assert await sources.is_intact(announced(), str(folder)), "it went with the job"
        folder.mkdir()
        (folder / "source").write_bytes(b"content")
        assert await sources.is_intact(announced(), str(folder))
        (folder / "source").write_bytes(b"c0nt")
        assert not await sources.is_intact(announced(), str(folder))
        await blobs.put("sources/x", b"c0ntent")
        with pytest.raises(ContentChangedError):
            await sources.is_intact(announced(), str(folder))

        def fail(_: str) -> Content:
            raise OSError(errno.EIO, "x")

        monkeypatch.setattr(sources_module, "content_of", fail)
        with pytest.raises(BlobStoreUnavailableError):
            await sources.is_intact(announced(), str(folder))

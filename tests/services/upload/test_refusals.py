"""Every rejection says what was wrong and what to do, and leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from services.upload.intake.intake import Intake
from services.upload.settings import UploadSettings
from tests.services.upload.service import UPLOAD, Service, UploadedEvents, running

BOUNDARY = "b0undary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
EXECUTABLE = b"MZ\x90\x00" + bytes(200)


@pytest.fixture
async def bounded(settings: UploadSettings) -> AsyncIterator[Service]:
    """A service that accepts up to 1000 bytes per file."""
    async with running(settings, max_file_size=1000, max_request_size=3000) as service:
        yield service


def form(*parts: bytes, end: bytes = b"--" + BOUNDARY.encode() + b"--\r\n") -> dict[str, Any]:
    opened = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return {"content": opened + end, "headers": FORM}


def part(disposition: str, content: bytes) -> bytes:
    return f"Content-Disposition: form-data; {disposition}\r\n\r\n".encode() + content


async def assert_refused(
    service: Service,
    events: UploadedEvents,
    answer: httpx.Response,
    status: int,
    code: str,
    *told: str,
) -> None:
    """Check that the answer is this problem with these words, and that nothing was stored."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code) == (answer.status_code, code)
    assert problem["instance"] == UPLOAD
    for words in told:
        assert words in problem["detail"]
    assert service.blobs() == []
    assert await events.all() == []


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"content": b""},
        {"files": [("label.a", (None, b"b"))]},
        {"files": [("file", ("", b""))]},
        form(part('name="file"; filename=""', b"")),
    ],
    ids=["no body", "empty body", "fields only", "empty nameless part", "no file chosen"],
)
async def test_a_request_without_a_file_is_refused(
    service: Service, events: UploadedEvents, request_: dict[str, Any]
) -> None:
    answer = await service.post(**request_)

    await assert_refused(service, events, answer, 422, "no_file", "part named `file`")


async def test_an_empty_file_is_refused_by_name(service: Service, events: UploadedEvents) -> None:
    answer = await service.send(("empty.txt", b""))
    await assert_refused(service, events, answer, 422, "empty_file", "'empty.txt'")

    answer = await service.post(content=b"", params={"name": "empty.txt"})
    await assert_refused(service, events, answer, 422, "empty_file", "'empty.txt'")


async def test_a_file_in_a_part_of_another_name_is_not_dropped_silently(
    service: Service, events: UploadedEvents
) -> None:
    answer = await service.post(files=[("document", ("a.txt", b"one"))])

    await assert_refused(service, events, answer, 422, "bad_parameter", "'document'", "'file'")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (("setup.exe", EXECUTABLE), "portable-executable"),
        (("holiday.jpg", EXECUTABLE, "image/jpeg"), "portable-executable"),
        (("tool", b"\x7fELF\x02\x01\x01" + bytes(100)), "application/x-elf"),
        (("demo.json", b"{}", "application/vnd.waybill.demo+json"), "WAYBILL_DEMO"),
    ],
    ids=["executable", "executable called an image", "ELF", "demo file"],
)
async def test_a_forbidden_type_is_refused_whatever_it_is_called(
    service: Service, events: UploadedEvents, file: tuple[str, bytes], told: str
) -> None:
    answer = await service.send(file)

    await assert_refused(service, events, answer, 415, "forbidden_type", told)


async def test_a_family_of_types_can_be_forbidden(
    settings: UploadSettings, events: UploadedEvents
) -> None:
    async with running(settings, forbidden_types=("image/*",)) as service:
        answer = await service.send(("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(100)))

        await assert_refused(service, events, answer, 415, "forbidden_type", "image/png")


class TestTooLarge:
    async def test_at_once_when_the_length_is_announced(
        self, bounded: Service, events: UploadedEvents
    ) -> None:
        answer = await bounded.post(content=b"x" * 1001)

        await assert_refused(bounded, events, answer, 413, "too_large", "1001", "1000")

    async def test_while_streaming_when_it_is_not(
        self, bounded: Service, events: UploadedEvents
    ) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield b"x" * 100

        answer = await bounded.post(content=pieces())

        await assert_refused(bounded, events, answer, 413, "too_large", "1000")

    async def test_as_one_file_of_a_form(self, bounded: Service, events: UploadedEvents) -> None:
        answer = await bounded.send(
            ("fits.txt", b"x" * 1000), ("large.txt", b"x" * 1001), atomic="true"
        )

        await assert_refused(bounded, events, answer, 413, "too_large", "'large.txt'", "1000")

    async def test_as_a_form_altogether(self, settings: UploadSettings) -> None:
        wrapping = 1 << 20
        async with running(settings, max_file_size=1000, max_request_size=3000) as service:
            answer = await service.send(*[("a.txt", b"x" * 1000)] * 150, pad="x" * wrapping)

        assert answer.json()["code"] == "too_large"


class TestBrokenMultipart:
    @pytest.mark.parametrize(
        "content_type", ["multipart/form-data", "multipart/form-data; boundary="]
    )
    async def test_without_a_boundary(
        self, service: Service, events: UploadedEvents, content_type: str
    ) -> None:
        answer = await service.post(content=b"x", headers={"content-type": content_type})

        await assert_refused(service, events, answer, 400, "broken_multipart", "boundary")

    async def test_with_another_boundary_than_announced(
        self, service: Service, events: UploadedEvents
    ) -> None:
        answer = await service.post(content=b"--other\r\n\r\n--other--\r\n", headers=FORM)

        await assert_refused(service, events, answer, 400, "broken_multipart")

    @pytest.mark.parametrize("boundary", ["x" * 300, "é"])
    async def test_with_a_boundary_that_none_may_be(
        self, service: Service, events: UploadedEvents, boundary: str
    ) -> None:
        headers = {"content-type": f"multipart/form-data; boundary={boundary}".encode()}
        answer = await service.post(content=b"x", headers=headers)

        await assert_refused(service, events, answer, 400, "broken_multipart")

    @pytest.mark.parametrize("end", [b"", b"--", b"--b0und"])
    async def test_that_is_cut_short(
        self, service: Service, events: UploadedEvents, end: bytes
    ) -> None:
        answer = await service.post(
            **form(part('name="file"; filename="a.txt"', b"one" * 50_000), end=end)
        )

        await assert_refused(service, events, answer, 400, "broken_multipart", "cut short")

    async def test_with_headers_too_large(self, service: Service, events: UploadedEvents) -> None:
        name = "x" * 10_000
        answer = await service.post(**form(part(f'name="file"; filename="{name}"', b"one")))

        await assert_refused(service, events, answer, 400, "broken_multipart", "header size")

    async def test_with_too_many_headers(self, service: Service, events: UploadedEvents) -> None:
        headers = b"".join(b"X-%d: x\r\n" % n for n in range(20))
        answer = await service.post(**form(headers + b"\r\none"))

        await assert_refused(service, events, answer, 400, "broken_multipart", "header count")

    async def test_with_too_many_parts(self, service: Service, events: UploadedEvents) -> None:
        answer = await service.send(*[("a.txt", b"one")] * 201)

        await assert_refused(service, events, answer, 400, "broken_multipart", "200 parts")

    @pytest.mark.parametrize("headers", [b"\r\n", b"Content-Type: text/plain\r\n\r\n"])
    async def test_with_a_part_that_has_no_name(
        self, service: Service, events: UploadedEvents, headers: bytes
    ) -> None:
        answer = await service.post(**form(headers + b"one"))

        await assert_refused(service, events, answer, 400, "broken_multipart", "no name")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"label.": "x"}, "'label.'"),
        ({"label.a b": "x"}, "'label.a b'"),
        ({"label." + "k" * 64: "x"}, "63"),
        ({"label.a": "x" * 257}, "'label.a'"),
        ({"label.a": "line\nbreak"}, "printable"),
        ({f"label.{n}": "x" for n in range(17)}, "17 labels"),
        ({"note": "x" * 5000}, "'note'"),
    ],
    ids=["no key", "space", "long key", "long value", "control", "too many", "large field"],
)
async def test_labels_are_bounded(
    service: Service, events: UploadedEvents, fields: dict[str, str], told: str
) -> None:
    answer = await service.send(("a.txt", b"one"), **fields)

    await assert_refused(service, events, answer, 422, "bad_parameter", told)


@pytest.mark.parametrize(
    "last",
    [("empty.txt", b""), ("setup.exe", EXECUTABLE)],
    ids=["an empty file", "a forbidden type"],
)
async def test_one_bad_file_refuses_all_of_an_atomic_request(
    service: Service, events: UploadedEvents, last: tuple[str, bytes]
) -> None:
    files = ("a.txt", b"one"), ("b.txt", b"two" * 1_000_000), last
    answer = await service.send(*files, atomic="true")

    assert answer.status_code in (415, 422)
    assert last[0] in answer.json()["detail"]
    assert service.blobs() == []
    assert await events.all() == []


async def test_a_blob_store_that_fails_is_a_reason_to_come_back(
    service: Service, events: UploadedEvents
) -> None:
    with service.broken_blob_store():
        answer = await service.send(("a.txt", b"one"))

    await assert_refused(service, events, answer, 503, "blob_store_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert service.settings.blobs not in answer.text


async def test_an_upload_is_not_stored_below_a_volume_that_was_unmounted(
    service: Service, events: UploadedEvents
) -> None:
    root = Path(service.settings.blobs)
    before = root.rename(root.with_name("volume"))
    root.mkdir()
    answer = await service.send(("a.txt", b"one"), ("b.bin", bytes(2 << 20)))
    await assert_refused(service, events, answer, 503, "blob_store_unavailable")
    assert list(root.iterdir()) == []
    root.rmdir()
    before.rename(root)
    assert (await service.send(("a.txt", b"one"))).status_code == 202


async def test_too_many_uploads_at_once_are_turned_away_quickly(
    settings: UploadSettings,
) -> None:
    waiting = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 10_000
        waiting.set()
        await go_on.wait()
        yield b"x"

    async with running(settings, max_uploads=1) as service:
        first = asyncio.create_task(service.post(content=slow()))
        await waiting.wait()
        await asyncio.sleep(0.2)
        async with asyncio.timeout(20):
            second = await service.send(("a.txt", b"one"))
        go_on.set()

        assert (await first).status_code == 202
        assert second.status_code == 503
        assert second.json()["code"] == "overloaded"
        assert second.headers["retry-after"] == "5"
        assert (await service.send(("a.txt", b"one"))).status_code == 202


@pytest.mark.parametrize("headers", [{}, {"content-length": "3000001"}], ids=["", "announced"])
async def test_an_upload_that_stalls_is_given_up(
    settings: UploadSettings, events: UploadedEvents, headers: dict[str, str]
) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        await asyncio.sleep(1)
        yield b"x"

    async with running(settings, idle_timeout=0.5) as service:
        answer = await service.post(content=stalling(), headers=headers)

        await assert_refused(service, events, answer, 408, "stalled", "0.5 seconds")


async def test_a_fault_of_ours_is_told_as_one_and_logged(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(Intake, "take", fail)
    for headers in ({}, {"Origin": "https://page.example"}):
        caplog.clear()
        answer = await service.post(content=b"x", headers=headers)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == "internal"
        assert "a bug" not in problem["detail"]
        assert "a bug" in caplog.text


async def test_each_outcome_is_counted(service: Service) -> None:
    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("waybill_uploads_total", {"outcome": outcome}) or 0

    def received() -> float:
        return REGISTRY.get_sample_value("waybill_upload_bytes_total") or 0

    before = count("accepted"), count("empty_file"), received()

    await service.send(("a.txt", b"one"), ("b.txt", b"four"))
    await service.send(("a.txt", b""))

    assert (count("accepted"), count("empty_file"), received()) == (
        before[0] + 1,
        before[1] + 1,
        before[2] + 7,
    )


async def test_a_compressed_transfer_is_refused_and_not_stored_as_the_file(
    service: Service, events: UploadedEvents
) -> None:
    answer = await service.post(content=b"x", headers={"content-encoding": "gzip"})
    await assert_refused(service, events, answer, 415, "forbidden_type", "gzip")

    headers = b'Content-Disposition: form-data; name="file"; filename="a"\r\n'
    headers += b"Content-Transfer-Encoding: base64\r\n\r\n"
    answer = await service.post(**form(headers + b"aGk="))
    await assert_refused(service, events, answer, 400, "broken_multipart", "base64")

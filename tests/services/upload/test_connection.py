"""The behaviour on the wire if one side ends early."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from services.upload.settings import UploadSettings
from shared.http import limits
from tests.services.upload.service import UPLOAD, Service, UploadedEvents, running

LIMIT = 1_000_000
OVERSIZED = b"x" * 30_000_000
"""Far more than socket buffers hold, so the client is still sending when it is rejected."""

RAW_HEAD = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n".encode()
CHUNKED_HEAD = (
    f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
)
FORM_HEAD = (
    f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
).encode()
FORM = "Content-Type: multipart/form-data"
PART_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


@pytest.fixture
async def bounded(settings: UploadSettings) -> AsyncIterator[Service]:
    async with running(settings, max_file_size=LIMIT, max_request_size=LIMIT) as service:
        yield service


async def until_counted(outcome: str, count: float) -> None:
    async with asyncio.timeout(10):
        while outcomes(outcome) < count:
            await asyncio.sleep(0.02)


def outcomes(outcome: str) -> float:
    return REGISTRY.get_sample_value("waybill_uploads_total", {"outcome": outcome}) or 0


class TestClientGoneHalfWay:
    @pytest.mark.parametrize(
        "sent",
        [
            RAW_HEAD,
            RAW_HEAD + b"x" * 100,
            RAW_HEAD + b"x" * 5_000_000,
            CHUNKED_HEAD + b"4c4b40\r\n" + b"x" * 5_000_000 + b"\r\n",
            FORM_HEAD + PART_HEAD[:30],
            FORM_HEAD + PART_HEAD + b"x" * 5_000_000,
            FORM_HEAD + PART_HEAD + b"x" * 5_000_000 + b"\r\n" + PART_HEAD + b"y",
        ],
        ids=[
            "before the body",
            "early",
            "late",
            "chunked",
            "in a part's headers",
            "in a part",
            "in the second file",
        ],
    )
    @pytest.mark.parametrize("abruptly", [False, True], ids=["closing", "resetting"])
    async def test_nothing_is_left_behind(
        self, service: Service, events: UploadedEvents, sent: bytes, abruptly: bool
    ) -> None:
        before = outcomes("client_gone")
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(sent)
        await writer.drain()
        await asyncio.sleep(0.1)
        if abruptly:
            writer.transport.abort()
        else:
            writer.close()

        await until_counted("client_gone", before + 1)

        assert service.blobs() == []
        assert await events.all() == []

    async def test_the_place_it_had_is_free_again(self, settings: UploadSettings) -> None:
        async with running(settings, max_uploads=1) as service:
            before = outcomes("client_gone")
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.write(RAW_HEAD)
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.close()
            await until_counted("client_gone", before + 1)

            assert (await service.send(("a.txt", b"one"))).status_code == 202


class TestRefusalWhileTheClientStillSends:
    """The response must reach the client, not be lost in a connection reset."""

    @pytest.mark.parametrize("kind", ["announced", "chunked", "form"])
    async def test_httpx_reads_it(self, bounded: Service, kind: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(OVERSIZED), 65536):
                yield OVERSIZED[start : start + 65536]

        requests: dict[str, dict[str, Any]] = {
            "announced": {"content": OVERSIZED},
            "chunked": {"content": pieces()},
            "form": {"files": {"file": ("large.txt", OVERSIZED)}},
        }
        answer = await bounded.post(**requests[kind])

        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    @pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
    @pytest.mark.parametrize("kind", ["--data-binary", "--upload-file", "--form"])
    async def test_curl_reads_it(
        self, bounded: Service, tmp_path: Path, kind: str, expect: str
    ) -> None:
        path = tmp_path / "large.bin"
        path.write_bytes(OVERSIZED)
        body = {"--data-binary": f"@{path}", "--upload-file": str(path), "--form": f"file=@{path}"}
        curl = await asyncio.create_subprocess_exec(
            "curl",
            *("--silent", "--show-error", "--write-out", "%{http_code}", "--max-time", "20"),
            *("--request", "POST", "--header", expect, kind, body[kind]),
            f"http://127.0.0.1:{bounded.port}{UPLOAD}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, complaint = await curl.communicate()

        assert out.endswith(b"413"), complaint
        assert b'"code":"too_large"' in out

    async def test_a_client_that_asks_first_is_spared_the_sending(self, bounded: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bounded.port)
        writer.write(RAW_HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))

        assert await reader.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        writer.close()

    async def test_the_answer_comes_before_the_rest_is_read(self, bounded: Service) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bounded.port)
        writer.write(RAW_HEAD)

        async with asyncio.timeout(8):
            head = await reader.readuntil(b"\r\n\r\n")

        assert b"413" in head
        assert b"connection: close" in head.lower()
        writer.close()

    async def test_patience_with_the_rest_has_an_end(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LINGER_BYTES", 1_000_000)
        _, writer = await asyncio.open_connection("127.0.0.1", bounded.port)
        writer.write(RAW_HEAD.replace(b"10000000", b"%d" % len(OVERSIZED)))
        writer.write(OVERSIZED)

        with pytest.raises(ConnectionError):
            await writer.drain()

    async def test_a_silent_client_is_not_waited_for_long(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LINGER_SECONDS", 0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", bounded.port)
        writer.write(RAW_HEAD)

        async with asyncio.timeout(8):
            assert (await reader.read()).startswith(b"HTTP/1.1 413")
        writer.close()

    async def test_a_refusal_after_the_whole_body_keeps_the_connection(
        self, service: Service
    ) -> None:
        answer = await service.send(("empty.txt", b""))

        assert answer.status_code == 422
        assert "connection" not in answer.headers


async def test_a_request_that_has_no_body_keeps_the_connection(service: Service) -> None:
    told = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Content-Length": "0"}

    answer = await service.client.post("/api/uploads", headers=told)

    assert answer.status_code == 201
    assert "connection" not in answer.headers


async def test_a_connection_serves_many_uploads(service: Service) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=service.client.base_url, limits=limits) as client:
        for number in range(20):
            answer = await client.post(UPLOAD, content=os.urandom(1 + 1000 * number))
            assert answer.status_code == 202


class TestRefusalByTheHead:
    """The response comes before the body is requested."""

    @pytest.mark.parametrize(
        ("target", "header", "code"),
        [
            (f"{UPLOAD}?label.=x", "X: y", "bad_parameter"),
            (f"{UPLOAD}?label.a={'x' * 300}", "X: y", "bad_parameter"),
            (f"{UPLOAD}?deduplicate=maybe", "X: y", "bad_parameter"),
            (UPLOAD, "Idempotency-Key: ", "bad_idempotency_key"),
            (UPLOAD, "Content-Encoding: gzip", "forbidden_type"),
            (UPLOAD, FORM, "broken_multipart"),
            (
                UPLOAD,
                f"{FORM}; boundary=a; boundary=b",
                "malformed_request",
            ),
            (f"{UPLOAD}/from-url", "Content-Type: application/json", "fetching_off"),
            (f"{UPLOAD}/direct", "Content-Type: application/json", "direct_off"),
            ("/api/uploads", "Upload-Length: 5", "tus_version"),
            ("/api/uploads/none", "Tus-Resumable: 1.0.0", "bad_parameter"),
        ],
    )
    async def test_and_no_100_is_sent(
        self, service: Service, target: str, header: str, code: str
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"
        writer.write(f"{head}Content-Length: 500000\r\nExpect: 100-continue\r\n\r\n".encode())
        async with asyncio.timeout(20):
            answer = await reader.read()

        assert b" 100 " not in answer
        assert f'"code":"{code}"'.encode() in answer
        assert b"connection: close" in answer
        writer.close()

    async def test_two_keys_are_none(self, service: Service) -> None:
        two = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        answer = await service.post(content=b"x", headers=two)

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")

    async def test_a_websocket_is_answered(self, service: Service) -> None:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        answer = await service.client.get(UPLOAD, headers=headers)

        assert answer.status_code == 405

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    async def test_curl_that_offers_http2_is_served(self, service: Service) -> None:
        curl = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--http2", "--max-time", "20", "--data-binary", "some words"),
            *("--header", "Content-Type: text/plain", "--write-out", "%{http_code}"),
            *("--next", "--silent", f"http://127.0.0.1:{service.port}/health/live"),
            f"http://127.0.0.1:{service.port}{UPLOAD}",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await curl.communicate()

        assert b'"status"' in out

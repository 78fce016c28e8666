"""Real clients download sources and artifacts, complete or in part, from every blob store."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from services.status.api import downloads
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.events.events import utc_now
from shared.http import problems
from shared.http.head_method import HeadAsGet
from shared.settings import Settings
from tests.support.s3 import BUCKET, ENVIRONMENT
from tests.support.serving import served

LARGE = os.urandom((3 << 20) + 12345)
SMALL = b"a small file"


class Served(NamedTuple):
    """A blob that is served, and its place in the store."""

    client: httpx.AsyncClient
    content: bytes
    blobs: BlobStore
    key: str


async def store_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> BlobStore:
    if kind == "s3":
        for name, value in ENVIRONMENT.items():
            request.getfixturevalue("monkeypatch").setenv(name, value)
        endpoint = request.getfixturevalue("s3_endpoint")
        return open_blob_store(
            Settings(blobs=f"s3://{BUCKET}/{folder.name}", blobs_endpoint=endpoint)
        )
    return open_blob_store(Settings(blobs=str(folder / "blobs"), blobs_fsync=False))


@pytest.fixture(params=["directory", "pack", "s3"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    blobs = await store_of(request.param, request, tmp_path)
    content = SMALL if request.param == "pack" else LARGE
    async with blobs.blob_writer():  # The only writer of packs.
        key = await blobs.put("sources/one", content, anywhere=request.param == "pack")
    assert (blobs.packs_of(key) is not None) == (request.param == "pack")
    made = utc_now()

    app = FastAPI()
    app.add_middleware(HeadAsGet)
    problems.install(app)

    @app.get("/source")
    async def source(request: Request) -> Response:
        return await downloads.download(
            request,
            blobs,
            key=key,
            name="Prüfung.bin",
            content_type="text/plain",
            sha256=hashlib.sha256(content).hexdigest(),
            modified=made,
        )

    @app.get("/artifact")
    async def artifact(request: Request) -> Response:
        return await downloads.download(
            request, blobs, key=key, name="a.txt", content_type="text/csv"
        )

    async with served(app) as client:
        yield Served(client, content, blobs, key)


async def test_a_part_is_that_part_of_the_whole(stored: Served) -> None:
    client, content, size = stored.client, stored.content, len(stored.content)
    whole = await client.get("/source")
    assert whole.content == content
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-type"] == "text/plain"
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=3-7", 3, 8),
        (f"bytes={size // 2}-", size // 2, size),
        ("bytes=-5", size - 5, size),
        (f"bytes=0-{size * 2}", 0, size),
    ):
        part = await client.get("/source", headers={"Range": asked})
        assert part.status_code == 206
        assert part.content == content[start:end]
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part.headers["content-length"] == str(end - start)
        assert part.headers["etag"] == whole.headers["etag"]
    beyond = await client.get("/source", headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    both = await client.get("/source", headers={"Range": "bytes=0-1,4-5"})
    assert (both.status_code, both.content) == (200, content)
    twice = await client.get("/source", headers=[("Range", "bytes=0-1"), ("Range", "bytes=4-5")])
    assert (twice.status_code, twice.json()["code"]) == (400, "malformed_request")


async def test_a_head_is_that_of_the_whole(stored: Served) -> None:
    for path in ("/source", "/artifact"):
        whole = await stored.client.get(path)
        head = await stored.client.head(path, headers={"Range": "bytes=0-1"})
        assert (head.status_code, head.content) == (200, b"")
        assert dict(head.headers) == dict(whole.headers) | {"date": head.headers["date"]}


async def test_a_client_that_has_the_content_gets_none(stored: Served) -> None:
    for path in ("/source", "/artifact"):
        known = (await stored.client.get(path)).headers
        assert known["etag"].startswith('"')
        for condition in (
            {"If-None-Match": known["etag"]},
            {"If-Modified-Since": known["last-modified"]},
        ):
            answer = await stored.client.get(path, headers=condition)
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == known["etag"]
        refused = await stored.client.get(path, headers={"If-Match": '"other"'})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
        rest = {"Range": "bytes=1-", "If-Range": known["etag"]}
        assert (await stored.client.get(path, headers=rest)).status_code == 206
        rest["If-Range"] = '"of another content"'
        assert (await stored.client.get(path, headers=rest)).status_code == 200


async def test_a_part_of_a_deleted_blob_is_a_clear_refusal(stored: Served) -> None:
    await stored.blobs.delete(stored.key)
    for headers in ({}, {"Range": "bytes=0-1"}):
        answer = await stored.client.get("/source", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_artifact")


async def test_only_the_part_is_read(stored: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    stream = stored.blobs.stream

    async def noted(key: str, **part: Any) -> AsyncIterator[bytes]:
        pieces = [piece async for piece in await stream(key, **part)]
        read.append(sum(map(len, pieces)))
        return _again(pieces)

    monkeypatch.setattr(stored.blobs, "stream", noted)
    await stored.client.get("/source", headers={"Range": "bytes=4-9"})
    assert read == [6]


async def _again(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def run(*command: str, folder: Path) -> int:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


@pytest.mark.skipif(not (which("curl") and which("wget")), reason="there is no curl, or no wget")
async def test_curl_and_wget_go_on_where_a_download_broke_off(
    stored: Served, tmp_path: Path
) -> None:
    address = str(stored.client.base_url.join("/source"))
    half = stored.content[: len(stored.content) // 2]
    for command in (("curl", "-fsS", "-C", "-", "-o", "got"), ("wget", "-c", "-O", "got")):
        got = tmp_path / "got"
        got.write_bytes(half)
        # The second request has nothing left to fetch.
        for _ in range(2):
            assert await run(*command, address, folder=tmp_path) in (0, 22, 33), command
            assert got.read_bytes() == stored.content, command


@pytest.mark.skipif(not which("curl"), reason="there is no curl")
async def test_curl_saves_a_download_under_the_name_of_the_file(
    stored: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    address = str(stored.client.base_url.join("/source"))
    assert await run("curl", "-fsSOJ", address, folder=folder) == 0
    assert [path.name for path in folder.iterdir()] == ["Prufung.bin"]


@pytest.mark.parametrize(
    "content_type", ["text/plain\r\nSet-Cookie: a=b", "text/\x00", "text/\u2028", "", "x" * 9000]
)
async def test_what_cannot_be_a_header_is_not_sent_as_one(
    content_type: str, tmp_path: Path
) -> None:
    blobs = open_blob_store(Settings(blobs=str(tmp_path / "blobs"), blobs_fsync=False))
    key = await blobs.put("sources/one", SMALL)
    app = FastAPI()

    @app.get("/artifact")
    async def artifact(request: Request) -> Response:
        return await downloads.download(
            request,
            blobs,
            key=key,
            name="a\r\nb\x00\u2028.txt",
            content_type=content_type,
            sha256='"\r\nSet-Cookie: a=b',
        )

    async with served(app) as client:
        answer = await client.get("/artifact")
    assert (answer.status_code, answer.content) == (200, SMALL)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers

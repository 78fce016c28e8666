"""The blob store behaves the same on a directory and on an S3-compatible server."""

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BLOCK, PART, BlobStore, open_blob_store
from shared.blobs.directory import Read
from shared.blobs.places import attempt_prefix, source_key
from shared.errors import BlobStoreUnavailableError
from shared.settings import Settings
from tests.support.s3 import BUCKET, ENVIRONMENT

KEY = source_key("one")
SMALL = b"a small file"
LARGE = os.urandom(3 * PART - 1)
"""More than 20 MB, in three parts, of which the last one is smaller."""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["directory", "directory with fsync", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "s3":
        request.getfixturevalue("aws")
        endpoint = request.getfixturevalue("s3_endpoint")
        # A prefix per test isolates the tests from each other.
        return open_blob_store(s3_settings(endpoint, f"s3://{BUCKET}/{tmp_path.name}/deep"))
    fsync = request.param == "directory with fsync"
    return open_blob_store(Settings(blobs=str(tmp_path / "blobs"), blobs_fsync=fsync))


def s3_settings(endpoint: str, blobs: str = f"s3://{BUCKET}") -> Settings:
    return Settings(blobs=blobs, blobs_endpoint=endpoint)


async def in_chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def reading(pieces: AsyncIterator[bytes]) -> Read:
    """Return a `read` function for `put_stream` that returns one piece after another."""

    async def read() -> bytes:
        return await anext(pieces, b"")

    return read


async def failing_after(data: bytes) -> AsyncIterator[bytes]:
    async for chunk in in_chunks(data):
        yield chunk
    raise ValueError("the client went away")


@pytest.mark.parametrize(
    "data", [b"", SMALL, bytes(BLOCK), LARGE], ids=["empty", "small", "one block", "large"]
)
async def test_what_is_streamed_in_is_what_comes_out(store: BlobStore, data: bytes) -> None:
    await store.put_stream(KEY, reading(in_chunks(data)))

    assert await store.get(KEY) == data


async def test_a_large_blob_comes_out_in_bounded_pieces(store: BlobStore) -> None:
    await store.put_stream(KEY, reading(in_chunks(LARGE)))

    pieces = [piece async for piece in await store.stream(KEY)]

    assert b"".join(pieces) == LARGE
    assert max(map(len, pieces)) < 4 * BLOCK


async def test_a_part_of_a_blob_comes_out(store: BlobStore) -> None:
    await store.put_stream(KEY, reading(in_chunks(LARGE)))
    end = len(LARGE)
    for start, stop in ((0, 1), (BLOCK - 1, 2 * BLOCK + 1), (end - 5, end), (0, end)):
        pieces = [piece async for piece in await store.stream(KEY, start=start, end=stop)]
        assert b"".join(pieces) == LARGE[start:stop]
        assert max(map(len, pieces), default=0) < 4 * BLOCK
    assert b"".join([p async for p in await store.stream(KEY, start=end - 7)]) == LARGE[-7:]


async def test_what_is_stored_again_has_another_tag(store: BlobStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    await store.put(KEY, SMALL)
    first = await store.info(KEY)
    assert first.size == len(SMALL)
    assert first.at > before
    assert await store.info(KEY) == first
    await store.put(KEY, SMALL[::-1])
    assert (await store.info(KEY)).tag != first.tag
    await store.delete(KEY)
    with pytest.raises(BlobMissingError):
        await store.info(KEY)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_failing_source_leaves_nothing(store: BlobStore, data: bytes) -> None:
    with pytest.raises(ValueError, match="the client went away"):
        await store.put_stream(KEY, reading(failing_after(data)))

    assert await store.keys("sources") == []
    with pytest.raises(BlobMissingError):
        await store.get(KEY)


async def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path), blobs_fsync=False))
    with pytest.raises(ValueError, match="went away"):
        await store.put_stream(KEY, reading(failing_after(LARGE)))

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("aws")
async def test_a_failing_source_leaves_no_unfinished_upload_in_s3(s3_endpoint: str) -> None:
    store = open_blob_store(s3_settings(s3_endpoint))
    with pytest.raises(ValueError, match="went away"):
        await store.put_stream(KEY, reading(failing_after(LARGE)))

    async with httpx.AsyncClient() as client:
        unfinished = await client.get(f"{s3_endpoint}/{BUCKET}?uploads")
    assert "ListMultipartUploadsResult" in unfinished.text
    assert "<Upload>" not in unfinished.text


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_all_of_the_content_is_seen_in_order(store: BlobStore, data: bytes) -> None:
    seen = hashlib.sha256()

    await store.put_stream(KEY, reading(in_chunks(data)), see=seen.update)

    assert seen.digest() == hashlib.sha256(data).digest()


async def test_many_small_blobs_side_by_side_are_all_stored(store: BlobStore) -> None:
    blobs = {source_key(str(number)): b"blob %d" % number for number in range(200)}

    await asyncio.gather(*(store.put(key, data) for key, data in blobs.items()))

    assert await store.keys("sources") == sorted(blobs)
    for key, data in list(blobs.items())[::20]:
        assert await store.get(key) == data


async def test_a_blob_that_cannot_be_stored_harms_no_other(tmp_path: Path) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path), blobs_fsync=True))
    (tmp_path / "taken").write_text("a file stands where a folder should be")

    outcomes = await asyncio.gather(
        *(store.put(key, SMALL) for key in ("a/1", "taken/1", "b/1", "taken/2", "c/1")),
        return_exceptions=True,
    )

    assert [isinstance(each, BlobStoreUnavailableError) for each in outcomes] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert [await store.get(key) for key in ("a/1", "b/1", "c/1")] == [SMALL] * 3
    assert await store.keys("staged") == []


async def test_a_key_that_no_file_can_have_leaves_nobody_waiting(tmp_path: Path) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path)))

    async with asyncio.timeout(10):
        for _ in range(20):  # More than there are threads.
            with pytest.raises(ValueError, match="null"):
                await store.put("a\x00b", SMALL)
        await store.put(KEY, SMALL)

    assert await store.get(KEY) == SMALL


async def test_put_replaces_what_is_there(store: BlobStore) -> None:
    await store.put(KEY, b"before")
    await store.put(KEY, b"after")

    assert await store.get(KEY) == b"after"


async def test_create_replaces_nothing(store: BlobStore) -> None:
    assert await store.create(KEY, b"first")
    assert not await store.create(KEY, b"second")

    assert await store.get(KEY) == b"first"


async def test_keys_can_be_asked_for_by_age(store: BlobStore) -> None:
    await store.put(KEY, SMALL)
    hour = timedelta(hours=1)

    assert await store.keys("sources", before=datetime.now(UTC) + hour) == [KEY]
    assert await store.keys("sources", before=datetime.now(UTC) - hour) == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_copy_is_the_same_and_stays_when_the_first_one_changes(
    store: BlobStore, data: bytes
) -> None:
    await store.put("aside/one", data)

    await store.copy("aside/one", KEY)
    await store.put("aside/one", b"changed")

    assert await store.size(KEY) == len(data)
    assert await store.start(KEY, 100) == data[:100]
    assert await store.get(KEY) == data


async def test_a_copy_replaces_what_is_there(store: BlobStore) -> None:
    await store.put("aside/one", SMALL)
    await store.put(KEY, b"older")

    for _ in range(2):
        await store.copy("aside/one", KEY)
        assert await store.get(KEY) == SMALL

    await store.delete("aside/one")
    assert await store.get(KEY) == SMALL
    assert await store.keys("") == [KEY]


async def test_in_a_directory_a_copy_takes_no_room(tmp_path: Path) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path)))
    await store.put("aside/one", SMALL)

    await store.copy("aside/one", KEY)

    assert (tmp_path / KEY).samefile(tmp_path / "aside/one")


async def test_a_directory_that_knows_no_links_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: str) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    store = open_blob_store(Settings(blobs=str(tmp_path)))
    await store.put("aside/one", LARGE)

    await store.copy("aside/one", KEY)

    assert await store.get(KEY) == LARGE
    assert not list((tmp_path / "staged").iterdir())


async def test_a_missing_blob_is_reported_as_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError):
        await store.get(KEY)
    with pytest.raises(BlobMissingError):
        await store.stream(KEY)
    with pytest.raises(BlobMissingError):
        await store.size(KEY)
    with pytest.raises(BlobMissingError):
        await store.start(KEY, 10)
    with pytest.raises(BlobMissingError):
        await store.copy(KEY, "elsewhere")


async def test_deleting_removes_the_blob_and_can_be_repeated(store: BlobStore) -> None:
    await store.put(KEY, SMALL)

    await store.delete(KEY)
    await store.delete(KEY)

    assert await store.keys("sources") == []


async def test_keys_are_those_under_the_prefix_and_sorted(store: BlobStore) -> None:
    artifact = attempt_prefix("one", 1, 2) + "/text.txt"
    for key in (source_key("two"), KEY, artifact):
        await store.put(key, SMALL)

    assert await store.keys("sources") == [KEY, source_key("two")]
    assert await store.keys("files/one") == await store.keys("files") == [artifact]
    assert await store.keys("nothing") == []


@pytest.mark.usefixtures("aws")
async def test_the_prefix_of_an_s3_address_stands_before_every_key(s3_endpoint: str) -> None:
    store = open_blob_store(s3_settings(s3_endpoint, f"s3://{BUCKET}/team/a"))
    await store.put(KEY, SMALL)

    assert await open_blob_store(s3_settings(s3_endpoint)).get(f"team/a/{KEY}") == SMALL
    assert await store.keys("sources") == [KEY]


async def test_only_a_directory_store_has_local_paths(tmp_path: Path) -> None:
    directory = open_blob_store(Settings(blobs=str(tmp_path)))
    await directory.put(KEY, SMALL)
    path = directory.local_path(KEY)

    assert path is not None
    assert Path(path).read_bytes() == SMALL
    assert open_blob_store(Settings(blobs="memory://")).local_path(KEY) is None


@pytest.mark.usefixtures("aws")
async def test_s3_credentials_come_from_the_usual_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    signatures: list[str] = []

    class Recorder(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            signatures.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Recorder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        store = open_blob_store(s3_settings(f"http://127.0.0.1:{server.server_port}"))
        await store.put(KEY, SMALL)
        server.shutdown()

    assert "Credential=AKIAEXAMPLE/" in signatures[0]
    assert "/eu-central-1/s3/" in signatures[0]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_store_that_does_not_answer_is_reported_as_unavailable(data: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = open_blob_store(s3_settings(closed))

    with pytest.raises(BlobStoreUnavailableError):
        await store.put_stream(KEY, reading(in_chunks(data)))
    with pytest.raises(BlobStoreUnavailableError):
        await store.get(KEY)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_directory_that_cannot_be_written_is_reported_as_unavailable(
    tmp_path: Path, data: bytes
) -> None:
    store = open_blob_store(Settings(blobs=str(tmp_path), blobs_fsync=True))
    (tmp_path / "sources").write_text("a file stands where the folder should be")

    with pytest.raises(BlobStoreUnavailableError):
        await store.put_stream(KEY, reading(in_chunks(data)))

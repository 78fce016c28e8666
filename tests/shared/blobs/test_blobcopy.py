"""Blobs are copied from a directory to an object store and keep their keys."""

import os
from pathlib import Path

import pytest

from shared.blobs.blobcopy import copy_blobs
from shared.blobs.blobs import BLOCK, BlobStore, open_blob_store
from shared.blobs.places import attempt_prefix, source_key
from shared.errors import BlobStoreUnavailableError
from shared.settings import Settings
from tests.support.s3 import Mood, StoreLine, on_s3

ARTIFACT = attempt_prefix("one", 1, 1) + "/text.txt"


async def filled(folder: Path) -> tuple[BlobStore, dict[str, bytes]]:
    """Create a directory with small blobs and a large one, some of them in packs."""
    store = open_blob_store(Settings(blobs=str(folder)))
    contents = {}
    async with store.blob_writer():
        for number in range(40):
            content = os.urandom(1 + number)
            key = await store.put(source_key(str(number)), content, anywhere=number % 4 > 0)
            contents[key] = content
        await store.delete(key)
        del contents[key]
    contents |= {source_key("large"): os.urandom(3 * BLOCK + 1), ARTIFACT: b""}
    for key in (source_key("large"), ARTIFACT):
        await store.put(key, contents[key])
    (folder / "staged" / "half").write_bytes(b"x")
    return store, contents


@pytest.fixture
def bucket(tmp_path: Path, store_line: StoreLine) -> BlobStore:
    return open_blob_store(on_s3(Settings(database=tmp_path.name), store_line))


async def test_each_blob_is_found_under_its_key_and_none_is_copied_twice(
    tmp_path: Path, bucket: BlobStore
) -> None:
    source, contents = await filled(tmp_path)

    done = await copy_blobs(source, bucket)

    assert (done.blobs, done.skipped) == (len(contents), 0)
    assert done.size == sum(map(len, contents.values()))
    assert sorted(contents) == await bucket.keys("")
    for key, content in contents.items():
        assert await bucket.get(key) == content
    for key in (source_key("0"), ARTIFACT):
        await bucket.delete(key)
    await bucket.put(source_key("4"), b"")
    again = await copy_blobs(source, bucket)
    assert (again.blobs, again.skipped) == (3, len(contents) - 3)
    assert await bucket.get(source_key("4")) == contents[source_key("4")]


async def test_a_copy_that_the_store_refuses_goes_on_later(
    tmp_path: Path, store_line: StoreLine, bucket: BlobStore
) -> None:
    source, contents = await filled(tmp_path)
    store_line.mood = Mood.REFUSING
    with pytest.raises(BlobStoreUnavailableError):
        await copy_blobs(source, bucket)
    store_line.mood = Mood.WELL
    await copy_blobs(source, bucket)
    assert await bucket.keys("") == sorted(contents)

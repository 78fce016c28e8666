"""Copy all blobs to an object store, to migrate from a directory.

The command is `waybill blobs copy s3://bucket/prefix`. Each blob keeps its key, which the log
refers to; a slice of a pack becomes an object of its own. Blobs that exist with the same size are
skipped, so that an interrupted copy resumes where it stopped.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass

from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobinfo import Stored
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.errors import BlobStoreUnavailableError, WaybillError
from shared.settings import Settings

AT_ONCE = 16
"""Blobs that are copied concurrently, each in blocks of a few MiB."""


class _IncompleteError(Exception):
    """A blob is shorter than its recorded size."""


@dataclass
class Copied:
    """The result of a copy."""

    blobs: int = 0
    size: int = 0
    """Bytes copied."""
    skipped: int = 0
    """Blobs that existed already."""


async def copy_blobs(source: BlobStore, target: BlobStore) -> Copied:
    """Copy all blobs.

    Raises:
        BlobStoreUnavailableError: one of the stores is unavailable.
    """
    done = Copied()
    room = asyncio.Semaphore(AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            async for key, stored in source.everything():
                await room.acquire()
                task = group.create_task(_copy(key, stored, source, target, done))
                task.add_done_callback(lambda _: room.release())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return done


async def _copy(
    key: str, stored: Stored, source: BlobStore, target: BlobStore, done: Copied
) -> None:
    if await _size(target, key) == stored.size:
        done.skipped += 1
        return
    try:
        pieces = await source.stream(key)
    except BlobMissingError:
        return  # It was deleted in the meantime.

    received = 0

    async def read() -> bytes:
        nonlocal received
        piece = await anext(pieces, b"")
        received += len(piece)
        if not piece and received != stored.size:
            raise _IncompleteError(key)
        return piece

    try:
        await target.put_stream(key, read)
    except _IncompleteError as error:
        message = f"{key} has {stored.size} bytes, but only {received} could be read."
        raise BlobStoreUnavailableError(message) from error
    done.blobs += 1
    done.size += stored.size


async def _size(store: BlobStore, key: str) -> int | None:
    try:
        return await store.size(key)
    except BlobMissingError:
        return None


def main() -> None:
    """Run `python -m shared.blobs.blobcopy TARGET`."""
    parser = argparse.ArgumentParser(
        prog="waybill blobs copy", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("target", metavar="s3://BUCKET/PREFIX", help="or gs://, az://")
    target: str = parser.parse_args().target
    if "://" not in target:
        parser.error("to copy into a directory, use `rsync --sparse`")
    settings = Settings()
    source = open_blob_store(settings)
    there = open_blob_store(settings.model_copy(update={"blobs": target}))
    try:
        done = asyncio.run(copy_blobs(source, there))
    except WaybillError as error:
        sys.exit(f"copy failed: {error}\nRun the command again to resume.")
    sys.stdout.write(
        f"copied {done.blobs} blobs, {done.size} bytes; skipped {done.skipped} existing blobs\n"
    )


if __name__ == "__main__":
    main()

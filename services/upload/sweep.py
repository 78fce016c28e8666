"""Sweeping away what nobody needs any more. Every pod does it; twice is harmless."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from aiokafka.errors import KafkaError

from shared.blobs import BlobStore
from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError
from shared.files import STAGED

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two sweeps: what is swept was kept for a day, and listing it takes a while."""

STAGED_FOR = timedelta(days=1)
"""Since its last write; an upload that does not go on is given up within minutes."""


KEPT = timedelta(days=1)
"""How long an upload that nobody goes on with is kept."""


async def sweep_staged(blobs: BlobStore) -> int:
    """Delete what processes that died were writing into a directory; returns how many files.

    Raises:
        BlobStoreUnavailableError: the blob store does not answer.
    """
    left = await blobs.keys(f"{STAGED}/", before=datetime.now(UTC) - STAGED_FOR)
    for key in left:
        await blobs.delete(key)
    return len(left)


async def sweep_folders(blobs: BlobStore, prefix: str) -> int:
    """Delete the folders below `prefix` that nothing was stored in for a day; returns how many.

    Raises:
        BlobStoreUnavailableError: the blob store does not answer.
    """
    last: dict[str, datetime] = {}
    stored = await blobs.stored(prefix)
    for key, blob in stored.items():
        folder = key.rpartition("/")[0]
        last[folder] = max(blob.at, last.get(folder, blob.at))
    expired = {folder for folder, at in last.items() if at < datetime.now(UTC) - KEPT}
    for key in stored:
        if key.rpartition("/")[0] in expired:
            await blobs.delete(key)
    return len(expired)


@asynccontextmanager
async def sweeping(sweeps: Mapping[str, Callable[[], Awaitable[int]]]) -> AsyncIterator[None]:
    """Sweep in the background of the `with` block, each by itself.

    Args:
        sweeps: what each sweeps away, and how; it returns how many.
    """
    task = asyncio.create_task(_sweep(sweeps))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep(sweeps: Mapping[str, Callable[[], Awaitable[int]]]) -> None:
    while True:
        for what, sweep in sweeps.items():
            try:
                if swept := await sweep():
                    log.info("swept %d %s", swept, what)
            except (BlobStoreUnavailableError, KafkaUnavailableError, KafkaError) as error:
                log.warning("%s are not swept: %s", what, error)
        await asyncio.sleep(EVERY)

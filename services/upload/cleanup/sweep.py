"""Sweeping away what nobody needs any more. Every pod does it; twice is harmless."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from services.upload.loops import SWEEPS
from shared.background.supervision import OUTAGES, RunningLoop
from shared.blobs.blobs import BlobStore
from shared.blobs.files import STAGED
from shared.deadlines import within
from shared.errors import BlobStoreUnavailableError
from shared.telemetry import LOOP_FAILURES

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two sweeps: what is swept was kept for a day, and listing it takes a while."""

SWEPT_WITHIN = 1800.0
"""Seconds that one sweep may take: it lists what may be millions of objects."""

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


async def sweep_all(sweeps: Mapping[str, Callable[[], Awaitable[int]]], loop: RunningLoop) -> None:
    """Sweep once an hour until cancelled. A sweep that fails keeps no other from its turn.

    Args:
        sweeps: what each sweeps away, and how; it returns how many.
    """
    while True:
        failed = [what for what, sweep in sweeps.items() if not await _sweep(what, sweep)]
        if not failed:
            loop.succeeded()
        await asyncio.sleep(EVERY)


async def _sweep(what: str, sweep: Callable[[], Awaitable[int]]) -> bool:
    """Do one sweep; False if it failed."""
    try:
        async with within(SWEPT_WITHIN, BlobStoreUnavailableError()):
            if swept := await sweep():
                log.info("swept %d %s", swept, what)
    except OUTAGES as error:
        log.warning("%s are not swept: %s", what, error)
        return False
    except Exception:
        LOOP_FAILURES.labels(loop=SWEEPS.name).inc()
        log.exception("%s are not swept", what)
        return False
    return True

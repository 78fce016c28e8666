"""Remove expired data from the blob store. Every pod sweeps; sweeping twice is harmless."""

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

SWEEP_INTERVAL = 3600.0
"""Seconds between two sweeps. Data expires after a day, and listing it takes a while."""

SWEEP_TIMEOUT = 1800.0
"""Maximum seconds of one sweep, which may list millions of objects."""

STAGED_TTL = timedelta(days=1)
"""Time since the last write to a staged file. Stalled uploads are aborted within minutes."""


UPLOAD_TTL = timedelta(days=1)
"""Time that an incomplete upload is kept after its last write."""


async def sweep_staged(blobs: BlobStore) -> int:
    """Delete staged files that crashed processes left in the blob directory.

    Returns:
        The number of deleted files.

    Raises:
        BlobStoreUnavailableError: The blob store does not answer.
    """
    left = await blobs.keys(f"{STAGED}/", before=datetime.now(UTC) - STAGED_TTL)
    for key in left:
        await blobs.delete(key)
    return len(left)


async def sweep_folders(blobs: BlobStore, prefix: str) -> int:
    """Delete the folders below `prefix` that have not been written to for `UPLOAD_TTL`.

    Returns:
        The number of deleted folders.

    Raises:
        BlobStoreUnavailableError: The blob store does not answer.
    """
    last: dict[str, datetime] = {}
    stored = await blobs.stored(prefix)
    for key, blob in stored.items():
        folder = key.rpartition("/")[0]
        last[folder] = max(blob.at, last.get(folder, blob.at))
    expired = {folder for folder, at in last.items() if at < datetime.now(UTC) - UPLOAD_TTL}
    for key in stored:
        if key.rpartition("/")[0] in expired:
            await blobs.delete(key)
    return len(expired)


async def sweep_all(sweeps: Mapping[str, Callable[[], Awaitable[int]]], loop: RunningLoop) -> None:
    """Run all sweeps once an hour until cancelled. A failed sweep does not stop the others.

    Args:
        sweeps: The sweeps by a description of what they remove. Each returns how many it removed.
        loop: The supervised loop to report to.
    """
    while True:
        failed = [what for what, sweep in sweeps.items() if not await _sweep(what, sweep)]
        if not failed:
            loop.succeeded()
        await asyncio.sleep(SWEEP_INTERVAL)


async def _sweep(what: str, sweep: Callable[[], Awaitable[int]]) -> bool:
    """Run one sweep; return False if it failed."""
    try:
        async with within(SWEEP_TIMEOUT, BlobStoreUnavailableError()):
            if swept := await sweep():
                log.info("removed %d %s", swept, what)
    except OUTAGES as error:
        log.warning("the sweep of %s failed: %s", what, error)
        return False
    except Exception:
        LOOP_FAILURES.labels(loop=SWEEPS.name).inc()
        log.exception("the sweep of %s failed", what)
        return False
    return True

"""Sweeping away what nobody needs any more. Every pod does it; twice is harmless."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.upload.idempotency import Keys
from shared.errors import BlobStoreUnavailableError

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two sweeps: what is swept was kept for a day, and listing it takes a while."""


@asynccontextmanager
async def sweeping(keys: Keys) -> AsyncIterator[None]:
    """Sweep in the background of the `with` block."""
    task = asyncio.create_task(_sweep(keys))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep(keys: Keys) -> None:
    while True:
        try:
            if forgotten := await keys.sweep():
                log.info("forgot %d idempotency keys", forgotten)
        except BlobStoreUnavailableError as error:
            log.warning("nothing was swept: %s", error)
        await asyncio.sleep(EVERY)

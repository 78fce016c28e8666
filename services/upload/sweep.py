"""Sweeping away what nobody needs any more. Every pod does it; twice is harmless."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from aiokafka.errors import KafkaError

from services.upload.idempotency import Keys
from services.upload.orphans import Orphans
from shared.blobs import BlobStore
from shared.directory import STAGED
from shared.errors import BlobStoreUnavailableError, KafkaUnavailableError

log = logging.getLogger(__name__)

EVERY = 3600.0
"""Seconds between two sweeps: what is swept was kept for a day, and listing it takes a while."""

STAGED_FOR = timedelta(days=1)
"""Since its last write; an upload that does not go on is given up within minutes."""


class Sweep:
    """All that is swept."""

    def __init__(self, *, blobs: BlobStore, keys: Keys, orphans: Orphans) -> None:
        self._blobs = blobs
        self._keys = keys
        self._orphans = orphans

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep in the background of the `with` block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(EVERY)

    async def once(self) -> None:
        """Sweep everything; what cannot be swept now is left for the next time."""
        for what, sweep in (
            ("idempotency keys", self._keys.sweep),
            ("incomplete files", self._sweep_staged),
            ("files without an event", self._orphans.sweep),
        ):
            try:
                if swept := await sweep():
                    log.info("swept %d %s", swept, what)
            except (BlobStoreUnavailableError, KafkaUnavailableError, KafkaError) as error:
                log.warning("%s are not swept: %s", what, error)

    async def _sweep_staged(self) -> int:
        """Delete what processes that died were writing into a directory."""
        left = await self._blobs.keys(f"{STAGED}/", before=datetime.now(UTC) - STAGED_FOR)
        for key in left:
            await self._blobs.delete(key)
        return len(left)

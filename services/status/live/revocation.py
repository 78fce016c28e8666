"""End the live connections of revoked API keys."""

import asyncio
import logging

from services.status.live.hub import Hub
from shared.auth.apikeys import CACHED_FOR, ApiKeys
from shared.background.supervision import RunningLoop
from shared.deadlines import blob_store_answers

log = logging.getLogger(__name__)


class Revocations:
    """Checks whether the API keys of live connections are still valid."""

    def __init__(self, hub: Hub, keys: ApiKeys) -> None:
        self._hub = hub
        self._keys = keys

    async def run(self, loop: RunningLoop) -> None:
        """Check every few seconds, until cancelled: as often as requests re-read a key.

        Raises:
            UnavailableError: the blob store is unavailable.
        """
        while True:
            await asyncio.sleep(CACHED_FOR)
            await self.check()
            loop.succeeded()

    async def check(self) -> None:
        """End the connections whose API key was revoked.

        Raises:
            UnavailableError: the blob store is unavailable.
        """
        for audience in self._hub.audiences():
            key_id = audience.api_key
            if key_id is None:
                continue
            async with blob_store_answers():
                key = await self._keys.find(key_id)
            if key is None:
                log.info("the API key %s was revoked; closing its live connections", key_id)
                self._hub.end(audience)

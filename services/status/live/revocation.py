"""Live connections of a key that was revoked end."""

import asyncio
import logging

from services.status.live.hub import Hub
from shared.auth.apikeys import CACHED_FOR, ApiKeys
from shared.background.supervision import RunningLoop
from shared.deadlines import blob_store_answers

log = logging.getLogger(__name__)


class Revocations:
    """Looks whether those who follow files may still do so."""

    def __init__(self, hub: Hub, keys: ApiKeys) -> None:
        self._hub = hub
        self._keys = keys

    async def run(self, loop: RunningLoop) -> None:
        """Look every few seconds, as often as a request would, until cancelled.

        Raises:
            UnavailableError: the blob store does not answer.
        """
        while True:
            await asyncio.sleep(CACHED_FOR)
            await self.check()
            loop.succeeded()

    async def check(self) -> None:
        """End what must not go on.

        Raises:
            UnavailableError: the blob store does not answer.
        """
        for audience in self._hub.audiences():
            key_id = audience.api_key
            if key_id is None:
                continue
            async with blob_store_answers():
                key = await self._keys.find(key_id)
            if key is None:
                log.info("the API key %s was revoked: its live connections end", key_id)
                self._hub.end(audience)

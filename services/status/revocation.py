"""Live connections of a key that was revoked end."""

import asyncio
import logging

from services.status.hub import Hub
from shared.apikeys import CACHED_FOR, ApiKeys
from shared.errors import UnavailableError

log = logging.getLogger(__name__)


class Revocations:
    """Looks whether those who follow files may still do so."""

    def __init__(self, hub: Hub, keys: ApiKeys) -> None:
        self._hub = hub
        self._keys = keys

    async def run(self) -> None:
        """Look every few seconds, as often as a request would, until cancelled."""
        while True:
            await asyncio.sleep(CACHED_FOR)
            try:
                await self.look()
            except UnavailableError as error:
                log.warning("whether keys were revoked cannot be told: %s", error)

    async def look(self) -> None:
        """End what must not go on.

        Raises:
            UnavailableError: the blob store does not answer.
        """
        for audience in self._hub.audiences():
            key_id = audience.api_key
            if key_id is not None and await self._keys.find(key_id) is None:
                log.info("the API key %s was revoked: its live connections end", key_id)
                self._hub.end(audience)

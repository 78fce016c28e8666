"""The registered webhooks: small objects in the blob store, like API keys.

They are not facts about files, so they are in no topic, and they survive the loss of MongoDB.
"""

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict

from services.status.projection.projection import FileState, Status
from services.status.store.access import Visibility
from shared.auth.sealed import UNSEALED, Seal
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.errors import OverloadedError, UnknownWebhookError
from shared.events.events import utc_now

FOLDER = "webhooks/"

CACHED_FOR = 15.0
"""Seconds until a pod sees a webhook that another pod created, changed or deleted."""

MAX_WEBHOOKS = 1000
"""Maximum number of webhooks of an installation, because each pod reads all of them on every
refresh."""

OLD_SECRET_LASTS = timedelta(hours=24)
"""How long a replaced secret continues to sign beside its successor."""

SECRET_BYTES = 32


class Secret(BaseModel):
    """A signing secret in the format of Standard Webhooks."""

    model_config = ConfigDict(frozen=True)

    value: str
    until: datetime | None = None
    """From this time on the secret no longer signs."""


class Webhook(BaseModel):
    """A server that receives a message when a file ends."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str
    states: frozenset[FileState]
    label: str | None
    """`key:value`: only files with this label."""
    everything: bool
    tenant: str | None
    owner: str | None
    """Owner of the files, as the creator of the webhook was allowed to see them."""
    created_at: datetime
    disabled: bool = False
    """True if the server responded that it is gone for good (410)."""
    secrets: tuple[Secret, ...]

    @classmethod
    def new(
        cls, url: str, *, states: frozenset[FileState], label: str | None, visible_to: Visibility
    ) -> Self:
        """Create a webhook for the files that are visible to its creator."""
        return cls(
            id=secrets.token_hex(8),
            url=url,
            states=states,
            label=label,
            everything=visible_to.everything,
            tenant=visible_to.tenant,
            owner=visible_to.owner,
            created_at=utc_now(),
            secrets=(new_secret(),),
        )

    @property
    def visibility(self) -> Visibility:
        """The files that the webhook covers, without those that others share with its owner."""
        return Visibility(everything=self.everything, tenant=self.tenant, owner=self.owner).own

    def is_visible_to(self, asker: Visibility) -> bool:
        """Return True if the caller may see the webhook."""
        return asker.everything or (
            not self.everything
            and self.tenant == asker.tenant
            and asker.owner in (None, self.owner)
        )

    def wants(self, status: Status, since: datetime) -> bool:
        """Return True if the webhook covers the end of a file.

        Args:
            status: the status of the file.
            since: time at which the file ended.
        """
        return (
            not self.disabled
            and since >= self.created_at
            and self.visibility.permits(status)
            and (self.label is None or status.has_label(self.label))
        )

    def with_new_secret(self, now: datetime) -> Self:
        """Return the webhook with a new secret. The previous one also signs for 24 hours."""
        last = self.secrets[0].model_copy(update={"until": now + OLD_SECRET_LASTS})
        return self.model_copy(update={"secrets": (new_secret(), last)})

    def signing(self, now: datetime) -> list[str]:
        """Return the secrets that sign at this time."""
        return [each.value for each in self.secrets if each.until is None or now < each.until]


def new_secret() -> Secret:
    """Return a new random secret."""
    return Secret(value="whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


class Webhooks:
    """The webhooks of an installation.

    Every method raises `BlobStoreUnavailableError` if the blob store is unavailable.
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        seal: Seal = UNSEALED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._seal = seal
        self._clock = clock
        self._known: dict[str, Webhook] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def all(self) -> dict[str, Webhook]:
        """Return all webhooks by id, at most `CACHED_FOR` seconds old."""
        async with self._reading:
            if self._clock() - self._read_at >= CACHED_FOR:
                keys = await self._blobs.keys(FOLDER)
                found = [await self._read(key) for key in keys]
                self._known = {each.id: each for each in found if each is not None}
                self._read_at = self._clock()
        return self._known

    async def get(self, webhook_id: str, asker: Visibility) -> Webhook:
        """Return a webhook that the caller may see.

        Raises:
            UnknownWebhookError: there is none with this id.
        """
        found = (await self.all()).get(webhook_id)
        if found is None or not found.is_visible_to(asker):
            raise UnknownWebhookError(f"No webhook has the id {webhook_id!r}.")
        return found

    async def add(self, webhook: Webhook) -> None:
        """Store a new webhook.

        Raises:
            OverloadedError: the installation has reached its limit of webhooks.
        """
        if len(await self.all()) >= MAX_WEBHOOKS:
            raise OverloadedError(f"The limit of {MAX_WEBHOOKS} webhooks is reached; delete one.")
        await self.change(webhook)

    async def change(self, webhook: Webhook) -> None:
        """Store a changed webhook."""
        place = _place(webhook.id)
        record = self._seal.close(place, webhook.model_dump_json().encode())
        await self._blobs.put(place, record)
        self._known[webhook.id] = webhook

    async def remove(self, webhook: Webhook) -> None:
        """Delete a webhook."""
        await self._blobs.delete(_place(webhook.id))
        self._known.pop(webhook.id, None)

    async def _read(self, key: str) -> Webhook | None:
        try:
            record = self._seal.open(key, await self._blobs.get(key))
        except BlobMissingError:
            return None  # It was deleted after the keys were listed.
        return None if record is None else Webhook.model_validate_json(record)


def _place(webhook_id: str) -> str:
    return f"{FOLDER}{webhook_id}.json"

"""Which servers are told of what: small objects in the blob store, like API keys.

They are no facts about files, so they are in no topic, and they outlive MongoDB.
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
"""Seconds until a pod knows of a webhook that another one has made, changed or deleted."""

MAX_WEBHOOKS = 1000
"""Of an installation: each pod reads all of them that often."""

OLD_SECRET_LASTS = timedelta(hours=24)
"""How long a secret signs beside the one that has taken its place."""

SECRET_BYTES = 32


class Secret(BaseModel):
    """What signs, as Standard Webhooks writes it."""

    model_config = ConfigDict(frozen=True)

    value: str
    until: datetime | None = None
    """From then on it does not sign any more."""


class Webhook(BaseModel):
    """A server that is told of files that end."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str
    states: frozenset[FileState]
    label: str | None
    """`key:value`: of files with this label only."""
    everything: bool
    tenant: str | None
    owner: str | None
    """Whose files, as they saw them who made it."""
    created_at: datetime
    disabled: bool = False
    """The server said that it is gone for good (410)."""
    secrets: tuple[Secret, ...]

    @classmethod
    def new(
        cls, url: str, *, states: frozenset[FileState], label: str | None, visible_to: Visibility
    ) -> Self:
        """A new one, for the files that somebody may see."""
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
        """The files that it is told of: not those that others share with its owner."""
        return Visibility(everything=self.everything, tenant=self.tenant, owner=self.owner).own

    def is_visible_to(self, asker: Visibility) -> bool:
        """Whether somebody may know of it."""
        return asker.everything or (
            not self.everything
            and self.tenant == asker.tenant
            and asker.owner in (None, self.owner)
        )

    def wants(self, status: Status, since: datetime) -> bool:
        """Whether it is told of the end of a file.

        Args:
            since: when the file ended.
        """
        return (
            not self.disabled
            and since >= self.created_at
            and self.visibility.permits(status)
            and (self.label is None or status.has_label(self.label))
        )

    def with_new_secret(self, now: datetime) -> Self:
        """The same with one more secret; the last one signs beside it for a day."""
        last = self.secrets[0].model_copy(update={"until": now + OLD_SECRET_LASTS})
        return self.model_copy(update={"secrets": (new_secret(), last)})

    def signing(self, now: datetime) -> list[str]:
        """The secrets that sign now."""
        return [each.value for each in self.secrets if each.until is None or now < each.until]


def new_secret() -> Secret:
    """A secret that nobody has yet."""
    return Secret(value="whsec_" + b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


class Webhooks:
    """The webhooks of an installation.

    Every method raises `BlobStoreUnavailableError` when the blob store does not answer.
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
        """All of them by their ids, as of some seconds ago at most."""
        async with self._reading:
            if self._clock() - self._read_at >= CACHED_FOR:
                keys = await self._blobs.keys(FOLDER)
                found = [await self._read(key) for key in keys]
                self._known = {each.id: each for each in found if each is not None}
                self._read_at = self._clock()
        return self._known

    async def get(self, webhook_id: str, asker: Visibility) -> Webhook:
        """One that somebody may know of.

        Raises:
            UnknownWebhookError: there is none.
        """
        found = (await self.all()).get(webhook_id)
        if found is None or not found.is_visible_to(asker):
            raise UnknownWebhookError(f"No webhook has the id {webhook_id!r}.")
        return found

    async def add(self, webhook: Webhook) -> None:
        """Keep a new one.

        Raises:
            OverloadedError: there are as many as there may be.
        """
        if len(await self.all()) >= MAX_WEBHOOKS:
            raise OverloadedError("There are as many webhooks as there may be; delete one.")
        await self.change(webhook)

    async def change(self, webhook: Webhook) -> None:
        """Keep it as it is now."""
        place = _place(webhook.id)
        record = self._seal.close(place, webhook.model_dump_json().encode())
        await self._blobs.put(place, record)
        self._known[webhook.id] = webhook

    async def remove(self, webhook: Webhook) -> None:
        """Forget it."""
        await self._blobs.delete(_place(webhook.id))
        self._known.pop(webhook.id, None)

    async def _read(self, key: str) -> Webhook | None:
        try:
            record = self._seal.open(key, await self._blobs.get(key))
        except BlobMissingError:
            return None  # It was deleted a moment ago.
        return None if record is None else Webhook.model_validate_json(record)


def _place(webhook_id: str) -> str:
    return f"{FOLDER}{webhook_id}.json"

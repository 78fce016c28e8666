"""Tickets: each opens one stream in place of a token, for a page that can send no headers.

An `EventSource` and a browser's `WebSocket` can only be given an address, and addresses end up in
the logs of whatever stands between. So what stands in one is good once, and for half a minute.
MongoDB knows of it by its hash, as any pod may be the one that takes it; the same step looks it up
and removes it, so that of two who come with one ticket one is refused.
"""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.status.store.store import FileStore, translated
from shared.auth.accesserrors import InvalidTokenError, TokenExpiredError
from shared.auth.apikeys import ApiKeys
from shared.auth.principal import Principal, Role, Scope
from shared.events.events import Timestamp, utc_now

LASTS = timedelta(seconds=30)
"""A page opens its stream at once; a browser in the background may take its time."""

PREFIX = "wbt_"
"""By this a secret that has got somewhere is recognised as a ticket."""

SECRET_BYTES = 32

MAX_LENGTH = 64
"""Characters of a ticket: those that we give have 47."""


class Ticket(BaseModel):
    """What opens one stream, once."""

    model_config = ConfigDict(frozen=True)

    ticket: str
    expires_at: Timestamp


class _Holder(BaseModel):
    """For whom a ticket stands, as MongoDB keeps it. It is good for reading, whatever they may."""

    subject: str
    tenant: str | None
    roles: list[Role]
    proof_until: float | None
    api_key: str | None
    expires_at: datetime

    def principal(self) -> Principal:
        return Principal(
            subject=self.subject,
            tenant=self.tenant,
            roles=frozenset(self.roles),
            scopes=frozenset({Scope.READ}),
            expires_at=self.proof_until,
            api_key=self.api_key,
        )


class Tickets:
    """Gives tickets, and takes each once.

    Every method raises `MongoUnavailableError` when MongoDB does not answer.
    """

    def __init__(self, store: FileStore, keys: ApiKeys) -> None:
        self._tickets = store.beside("tickets")
        self._keys = keys
        self._is_prepared = False

    @translated
    async def issue(self, asker: Principal) -> Ticket:
        """A ticket for who asks."""
        if not self._is_prepared:  # MongoDB removes by it what nobody has used.
            await self._tickets.create_index("expires_at", expireAfterSeconds=0)
            self._is_prepared = True
        text, expires_at = PREFIX + secrets.token_urlsafe(SECRET_BYTES), utc_now() + LASTS
        holder = _Holder(
            subject=asker.subject,
            tenant=asker.tenant,
            roles=sorted(asker.roles),
            proof_until=asker.expires_at,
            api_key=asker.api_key,
            expires_at=expires_at,
        )
        await self._tickets.insert_one({"_id": _hash(text), **holder.model_dump()})
        return Ticket(ticket=text, expires_at=expires_at)

    @translated
    async def redeem(self, text: str) -> Principal:
        """Who has the ticket, which is good no longer.

        Raises:
            InvalidTokenError: there is no such ticket, it was used, or its time is over.
            TokenExpiredError: what proved who they are has expired meanwhile.
            BlobStoreUnavailableError: whether their API key was revoked cannot be told.
        """
        found = None
        if len(text) <= MAX_LENGTH:
            found = await self._tickets.find_one_and_delete({"_id": _hash(text)})
        return await self._principal(found)

    @translated
    async def look_up(self, text: str) -> Principal:
        """The holder of a ticket, which stays good.

        Raises:
            InvalidTokenError, TokenExpiredError, BlobStoreUnavailableError: as `redeem` does.
        """
        found = None
        if len(text) <= MAX_LENGTH:
            found = await self._tickets.find_one({"_id": _hash(text)})
        return await self._principal(found)

    async def _principal(self, found: Mapping[str, Any] | None) -> Principal:
        if found is None or found["expires_at"] <= utc_now():
            raise InvalidTokenError("The ticket was used, or its time is over: get a new one.")
        principal = _Holder.model_validate(found).principal()
        if principal.expires_at is not None and principal.expires_at <= utc_now().timestamp():
            raise TokenExpiredError
        key_id = principal.api_key
        if key_id is not None and await self._keys.find(key_id) is None:
            raise InvalidTokenError("There is no such API key, or it was revoked.")
        return principal


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

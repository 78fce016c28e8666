"""One-time tickets: a page that cannot send headers opens a stream with one instead of a token.

A browser's `EventSource` and `WebSocket` accept an address only, and addresses end up in the logs
of proxies. A ticket in an address is therefore valid once, and for 30 seconds. MongoDB stores its
hash, so that any pod can redeem it. Lookup and removal are one operation: of two clients that
present the same ticket, one is rejected.
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

TICKET_LIFETIME = timedelta(seconds=30)
"""A page opens its stream immediately, but a browser in the background may take longer."""

PREFIX = "wbt_"
"""Identifies a leaked secret as a ticket."""

SECRET_BYTES = 32

MAX_LENGTH = 64
"""Characters of a ticket. Issued tickets have 47."""


class Ticket(BaseModel):
    """A secret that opens one stream, once."""

    model_config = ConfigDict(frozen=True)

    ticket: str
    expires_at: Timestamp


class _Holder(BaseModel):
    """The principal behind a ticket, as stored in MongoDB. It permits reading only."""

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
    """Issues tickets and redeems each one once.

    Every method raises `MongoUnavailableError` when MongoDB is unavailable.
    """

    def __init__(self, store: FileStore, keys: ApiKeys) -> None:
        self._tickets = store.beside("tickets")
        self._keys = keys
        self._is_prepared = False

    @translated
    async def issue(self, asker: Principal) -> Ticket:
        """Issue a ticket for the principal."""
        if not self._is_prepared:  # MongoDB removes expired tickets by this index.
            await self._tickets.create_index("expires_at", expireAfterSeconds=0)
            self._is_prepared = True
        text, expires_at = PREFIX + secrets.token_urlsafe(SECRET_BYTES), utc_now() + TICKET_LIFETIME
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
        """Invalidate a ticket and return its holder.

        Raises:
            InvalidTokenError: the ticket does not exist, was used, or has expired.
            TokenExpiredError: the holder's credential has expired since.
            BlobStoreUnavailableError: the blob store is unavailable, so the API key cannot be
                checked.
        """
        found = None
        if len(text) <= MAX_LENGTH:
            found = await self._tickets.find_one_and_delete({"_id": _hash(text)})
        return await self._principal(found)

    @translated
    async def look_up(self, text: str) -> Principal:
        """Return the holder of a ticket, which stays valid.

        Raises:
            InvalidTokenError, TokenExpiredError, BlobStoreUnavailableError: as for `redeem`.
        """
        found = None
        if len(text) <= MAX_LENGTH:
            found = await self._tickets.find_one({"_id": _hash(text)})
        return await self._principal(found)

    async def _principal(self, found: Mapping[str, Any] | None) -> Principal:
        if found is None or found["expires_at"] <= utc_now():
            raise InvalidTokenError("The ticket was used or has expired; request a new one.")
        principal = _Holder.model_validate(found).principal()
        if principal.expires_at is not None and principal.expires_at <= utc_now().timestamp():
            raise TokenExpiredError
        key_id = principal.api_key
        if key_id is not None and await self._keys.find(key_id) is None:
            raise InvalidTokenError("The API key does not exist or was revoked.")
        return principal


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

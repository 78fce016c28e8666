"""API keys for machines: small objects in the blob store, which every service reads.

A key is `wb_<id>_<secret>`. Who has the blob store cannot use it, since the object `keys/<id>.json`
has a hash of the secret alone; nor can they make one where records are sealed (`sealed.py`).
To revoke a key is to delete its object; a service notices within `CACHED_FOR` seconds.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.auth.accesserrors import InvalidTokenError, TokenExpiredError
from shared.auth.principal import Principal, Role, Scope
from shared.auth.sealed import SEALED_FOLDERS, UNSEALED, Seal, seal_of
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore, open_blob_store
from shared.errors import WaybillError
from shared.events.events import utc_now
from shared.settings import SealSettings, from_environment

PREFIX = "wb_"
"""What a key begins with, and no other token."""

FOLDER = "keys/"

CACHED_FOR = 5.0
"""Seconds that a key is known for without a look at the blob store: how long one that was revoked
may still be used."""

MAX_CACHED = 10_000
"""Keys that are known at once, 1 kB each; ids that nobody has are among them."""

_KEY = re.compile(r"wb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


class ApiKey(BaseModel):
    """A key as it is stored."""

    model_config = ConfigDict(frozen=True)

    id: str
    secret_sha256: str
    """Of 256 random bits: there is nothing to guess that a slow hash would slow down."""
    note: str
    subject: str
    tenant: str | None
    roles: frozenset[Role]
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None

    @property
    def place(self) -> str:
        """Where it is in the blob store."""
        return place_of(self.id)

    def principal(self) -> Principal:
        """Who has it."""
        return Principal(
            subject=self.subject,
            tenant=self.tenant,
            roles=self.roles,
            scopes=self.scopes,
            expires_at=self.expires_at.timestamp() if self.expires_at else None,
            api_key=self.id,
        )


def place_of(key_id: str) -> str:
    """Where a key is in the blob store."""
    return f"{FOLDER}{key_id}.json"


def new_key(
    subject: str,
    *,
    tenant: str | None = None,
    role: Role = Role.USER,
    scopes: frozenset[Scope] = frozenset(Scope),
    lasts: timedelta | None = None,
    note: str = "",
) -> tuple[ApiKey, str]:
    """A new key, and the text that is told to whom it is for, once."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    now = utc_now()
    key = ApiKey(
        id=key_id,
        secret_sha256=_hash(secret),
        note=note,
        subject=subject,
        tenant=tenant,
        roles=frozenset({Role.USER, role}),
        scopes=scopes,
        created_at=now,
        expires_at=None if lasts is None else now + lasts,
    )
    return key, f"{PREFIX}{key_id}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiKeys:
    """The keys of an installation.

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
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}

    async def verify(self, text: str) -> Principal:
        """Who has the key.

        Raises:
            InvalidTokenError: there is no such key, or no more.
            TokenExpiredError: its time is over.
        """
        parts = _KEY.fullmatch(text)
        key = await self.find(parts[1]) if parts else None
        if (
            parts is None
            or key is None
            or not hmac.compare_digest(key.secret_sha256, _hash(parts[2]))
        ):
            raise InvalidTokenError("There is no such API key, or it was revoked.")
        if key.expires_at is not None and key.expires_at <= utc_now():
            raise TokenExpiredError
        return key.principal()

    async def find(self, key_id: str) -> ApiKey | None:
        """A key by its id, as of some seconds ago at most; None if there is none."""
        now = self._clock()
        known = self._cache.get(key_id)
        if known is not None and now - known[0] < CACHED_FOR:
            return known[1]
        key = await self._read(key_id)
        self._cache.pop(key_id, None)
        while len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key_id] = now, key
        return key

    async def _read(self, key_id: str) -> ApiKey | None:
        place = place_of(key_id)
        try:
            record = self._seal.open(place, await self._blobs.get(place))
            key = None if record is None else ApiKey.model_validate_json(record)
        except (BlobMissingError, ValidationError):
            return None
        return key if key is not None and key.id == key_id else None

    async def add(self, key: ApiKey) -> None:
        """Have a key be one."""
        record = self._seal.close(key.place, key.model_dump_json().encode())
        await self._blobs.put(key.place, record)

    async def revoke(self, key_id: str) -> bool:
        """Have a key be none any more; False if it is none."""
        try:
            await self._blobs.size(place_of(key_id))
        except BlobMissingError:
            return False
        await self._blobs.delete(place_of(key_id))
        self._cache.pop(key_id, None)
        return True

    async def all(self) -> list[ApiKey]:
        """All keys, oldest first."""
        ids = [
            place.removeprefix(FOLDER).removesuffix(".json")
            for place in await self._blobs.keys(FOLDER)
        ]
        found = [key for key_id in ids if (key := await self._read(key_id)) is not None]
        return sorted(found, key=lambda key: key.created_at)

    @property
    def is_sealed(self) -> bool:
        """Whether only sealed keys count."""
        return self._seal.is_set

    async def seal_all(self) -> list[str]:
        """Seal what an earlier version has stored; returns the places of what had no valid seal."""
        sealed = []
        for folder in SEALED_FOLDERS:
            for place in await self._blobs.keys(folder):
                record = await self._blobs.get(place)
                if not self._seal.is_intact(place, record):
                    await self._blobs.put(place, self._seal.close(place, record))
                    sealed.append(place)
        return sealed


async def _create(keys: ApiKeys, asked: argparse.Namespace) -> str:
    key, text = new_key(
        asked.subject,
        tenant=asked.tenant,
        role=asked.role,
        scopes=frozenset(asked.scope or Scope),
        lasts=None if asked.days is None else timedelta(days=asked.days),
        note=asked.note,
    )
    await keys.add(key)
    return f"{text}\n"


async def _list(keys: ApiKeys, _: argparse.Namespace) -> str:
    return "".join(_line(key) for key in await keys.all())


def _line(key: ApiKey) -> str:
    ends = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "without end"
    role = "+".join(sorted(key.roles - {Role.USER})) or Role.USER.value
    who = f"{key.subject} ({role} of {key.tenant or 'no tenant'})"
    return f"{key.id}  {who}  {' '.join(sorted(key.scopes))}  {ends}  {key.note}".rstrip() + "\n"


async def _sign(keys: ApiKeys, _: argparse.Namespace) -> str:
    if not keys.is_sealed:
        sys.exit("Set WAYBILL_SEAL_SECRET (or WAYBILL_AUTH_SECRET), as the services have it.")
    sealed = await keys.seal_all()
    if not sealed:
        return "Every record has its seal already.\n"
    return "".join(f"sealed {place}\n" for place in sealed) + (
        "These records count from now on. Revoke or delete those that you do not know.\n"
    )


async def _revoke(keys: ApiKeys, asked: argparse.Namespace) -> str:
    if not await keys.revoke(asked.id):
        sys.exit(f"There is no key {asked.id}.")
    return f"{asked.id} is revoked, within {CACHED_FOR:g} seconds\n"


def main() -> None:
    """The commands `python -m shared.auth.apikeys create`, `list`, `sign` and `revoke`."""
    parser = argparse.ArgumentParser(prog="waybill keys", description="API keys for machines.")
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make a key and print it, this once")
    create.add_argument("subject", help="whose files it is about")
    create.add_argument("--tenant")
    create.add_argument("--role", type=Role, choices=list(Role), default=Role.USER)
    create.add_argument("--scope", type=Scope, choices=list(Scope), action="append")
    create.add_argument("--days", type=float, help="how long it lasts; for ever, if it is not said")
    create.add_argument("--note", default="", help="what it is for")
    create.set_defaults(act=_create)
    commands.add_parser("list", help="list the keys, not their secrets").set_defaults(act=_list)
    sign = commands.add_parser(
        "sign", help="seal the keys and webhooks of an earlier version, and name them"
    )
    sign.set_defaults(act=_sign)
    revoke = commands.add_parser("revoke", help="have a key be none any more")
    revoke.add_argument("id")
    revoke.set_defaults(act=_revoke)
    asked = parser.parse_args()
    settings = from_environment(SealSettings)
    keys = ApiKeys(open_blob_store(settings), seal=seal_of(settings))
    try:
        sys.stdout.write(asyncio.run(asked.act(keys, asked)))
    except WaybillError as error:
        sys.exit(str(error))
    sys.stdout.flush()
    # A thread of the blob store's may still be letting go of its last answer, and an interpreter
    # that is being taken down under it aborts.
    os._exit(0)


if __name__ == "__main__":
    main()

"""API keys for machines, stored as objects in the blob store and read by every service.

A key is `wb_<id>_<secret>`. The object `keys/<id>.json` holds only a hash of the secret, so read
access to the blob store does not reveal it. Where records are sealed (`sealed.py`), write access
does not allow new keys either. Revoking a key deletes its object; services notice within
`CACHED_FOR` seconds.
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
"""The prefix of API keys, which no other token has."""

FOLDER = "keys/"

CACHED_FOR = 5.0
"""Seconds for which a key is cached. A revoked key may still be used for this long."""

MAX_CACHED = 10_000
"""Cached keys, 1 kB each. Unknown ids are cached as well."""

_KEY = re.compile(r"wb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


class ApiKey(BaseModel):
    """A stored API key."""

    model_config = ConfigDict(frozen=True)

    id: str
    secret_sha256: str
    """SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, so a slow hash would
    add no protection."""
    note: str
    subject: str
    tenant: str | None
    roles: frozenset[Role]
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None

    @property
    def place(self) -> str:
        """Return the key of its object in the blob store."""
        return place_of(self.id)

    def principal(self) -> Principal:
        """Return the principal that this key authenticates."""
        return Principal(
            subject=self.subject,
            tenant=self.tenant,
            roles=self.roles,
            scopes=self.scopes,
            expires_at=self.expires_at.timestamp() if self.expires_at else None,
            api_key=self.id,
        )


def place_of(key_id: str) -> str:
    """Return the key of an API key's object in the blob store."""
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
    """Return a new key and its text `wb_<id>_<secret>`, which is shown only once."""
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
    """The API keys of an installation.

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
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}

    async def verify(self, text: str) -> Principal:
        """Return the principal that a key authenticates.

        Raises:
            InvalidTokenError: the key does not exist or was revoked.
            TokenExpiredError: the key has expired.
        """
        parts = _KEY.fullmatch(text)
        key = await self.find(parts[1]) if parts else None
        if (
            parts is None
            or key is None
            or not hmac.compare_digest(key.secret_sha256, _hash(parts[2]))
        ):
            raise InvalidTokenError("The API key does not exist or was revoked.")
        if key.expires_at is not None and key.expires_at <= utc_now():
            raise TokenExpiredError
        return key.principal()

    async def find(self, key_id: str) -> ApiKey | None:
        """Return a key by its id, or None; the result is at most `CACHED_FOR` seconds old."""
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
        """Store a key, which makes it valid."""
        record = self._seal.close(key.place, key.model_dump_json().encode())
        await self._blobs.put(key.place, record)

    async def revoke(self, key_id: str) -> bool:
        """Delete a key; return False if it does not exist."""
        try:
            await self._blobs.size(place_of(key_id))
        except BlobMissingError:
            return False
        await self._blobs.delete(place_of(key_id))
        self._cache.pop(key_id, None)
        return True

    async def all(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        ids = [
            place.removeprefix(FOLDER).removesuffix(".json")
            for place in await self._blobs.keys(FOLDER)
        ]
        found = [key for key_id in ids if (key := await self._read(key_id)) is not None]
        return sorted(found, key=lambda key: key.created_at)

    @property
    def is_sealed(self) -> bool:
        """Return True if only sealed keys are valid."""
        return self._seal.is_set

    async def seal_all(self) -> list[str]:
        """Seal the records of earlier versions and return the keys of those without valid seal."""
        sealed = []
        for folder in SEALED_FOLDERS:
            for place in await self._blobs.keys(folder):
                record = await self._blobs.get(place)
                if not self._seal.is_intact(place, record):
                    await self._blobs.put(place, self._seal.close(place, record))
                    sealed.append(place)
        return sealed


async def _create(keys: ApiKeys, arguments: argparse.Namespace) -> str:
    key, text = new_key(
        arguments.subject,
        tenant=arguments.tenant,
        role=arguments.role,
        scopes=frozenset(arguments.scope or Scope),
        lasts=None if arguments.days is None else timedelta(days=arguments.days),
        note=arguments.note,
    )
    await keys.add(key)
    return f"{text}\n"


async def _list(keys: ApiKeys, _: argparse.Namespace) -> str:
    return "".join(_line(key) for key in await keys.all())


def _line(key: ApiKey) -> str:
    ends = f"until {key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "no expiry"
    role = "+".join(sorted(key.roles - {Role.USER})) or Role.USER.value
    who = f"{key.subject} ({role} of {key.tenant or 'no tenant'})"
    return f"{key.id}  {who}  {' '.join(sorted(key.scopes))}  {ends}  {key.note}".rstrip() + "\n"


async def _sign(keys: ApiKeys, _: argparse.Namespace) -> str:
    if not keys.is_sealed:
        sys.exit("Set WAYBILL_SEAL_SECRET (or WAYBILL_AUTH_SECRET) to the value of the services.")
    sealed = await keys.seal_all()
    if not sealed:
        return "All records are already sealed.\n"
    return "".join(f"sealed {place}\n" for place in sealed) + (
        "These records are valid from now on. Revoke or delete those that you do not recognize.\n"
    )


async def _revoke(keys: ApiKeys, arguments: argparse.Namespace) -> str:
    if not await keys.revoke(arguments.id):
        sys.exit(f"There is no key {arguments.id}.")
    return f"{arguments.id} is revoked; services stop accepting it within {CACHED_FOR:g} s\n"


def main() -> None:
    """Run `python -m shared.auth.apikeys` with `create`, `list`, `sign` or `revoke`."""
    parser = argparse.ArgumentParser(
        prog="waybill keys", description="Manage API keys for machines."
    )
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="create a key and print it once")
    create.add_argument("subject", help="owner of the files that the key uploads and reads")
    create.add_argument("--tenant")
    create.add_argument("--role", type=Role, choices=list(Role), default=Role.USER)
    create.add_argument("--scope", type=Scope, choices=list(Scope), action="append")
    create.add_argument("--days", type=float, help="days until it expires; never, by default")
    create.add_argument("--note", default="", help="purpose of the key")
    create.set_defaults(act=_create)
    commands.add_parser("list", help="list the keys without their secrets").set_defaults(act=_list)
    sign = commands.add_parser(
        "sign", help="seal the keys and webhooks of an earlier version and list them"
    )
    sign.set_defaults(act=_sign)
    revoke = commands.add_parser("revoke", help="revoke a key")
    revoke.add_argument("id")
    revoke.set_defaults(act=_revoke)
    arguments = parser.parse_args()
    settings = from_environment(SealSettings)
    keys = ApiKeys(open_blob_store(settings), seal=seal_of(settings))
    try:
        sys.stdout.write(asyncio.run(arguments.act(keys, arguments)))
    except WaybillError as error:
        sys.exit(str(error))
    sys.stdout.flush()
    # A thread of the blob store may still be releasing its last response; the interpreter would
    # abort if it shut down meanwhile.
    os._exit(0)


if __name__ == "__main__":
    main()

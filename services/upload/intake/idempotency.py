"""`Idempotency-Key`: a repeated request gets the answer to the first one.

Each key is an object in the blob store with a fingerprint of the request and its outcome. The first
request to finish storing its files creates the object if it is absent. Any later request finds it,
on any pod, however far the first one got. Of two concurrent requests, both store their files, and
the second one discards its own. The object exists before the events are published, so that a repeat
can publish what a crashed pod did not.

Follows draft-ietf-httpapi-idempotency-key-header-07. A rejected request leaves no key: it can be
corrected and sent again with the same key.
"""

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from services.upload.intake.accepted import Accepted
from shared.auth.principal import Principal
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobs import BlobStore
from shared.errors import BadIdempotencyKeyError, ReusedIdempotencyKeyError

PREFIX = "idempotency"

KEY_TTL = timedelta(days=1)
"""Minimum lifetime of a key. Clients retry within hours."""

MAX_KEY = 255
"""Maximum characters of a key; most clients use a UUID of 36."""

FIRST_REQUEST_TIMEOUT = 3.0
"""Seconds that a repeat waits for the first request to publish its events: the time until they go
to the outbox. Then the repeat publishes them too, which is harmless."""

POLL_INTERVAL = 0.1
"""Seconds between two checks of the first request's progress."""

_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([\x21\x23-\x5b\x5d-\x7e]+)')
"""An RFC 8941 string, or an unquoted value, which many clients send."""


def read_key(header: str | None) -> str | None:
    """Parse the header; return None if it is absent.

    Raises:
        BadIdempotencyKeyError: The value is not a string of 1 to 255 characters.
    """
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    key = found and (found[1] or found[2])
    if not key or len(key) > MAX_KEY:
        raise BadIdempotencyKeyError(
            "The Idempotency-Key is malformed; send 1 to "
            f"{MAX_KEY} printable ASCII characters in double quotes, "
            'for example a UUID: "8e03978e-40d5-43e8-bc93-6894a57f9324".'
        )
    return key


def fingerprint(accepted: Accepted) -> str:
    """Return a hash of the files' content, names and types and of the labels.

    Two requests with the same files have the same fingerprint, whatever the form of their bodies.
    """
    files = [(file.name, file.content_type, file.sha256) for file in accepted.files]
    identity: list[object] = [files, sorted(accepted.labels.items())]
    if accepted.refused:
        identity.append([(file.index, file.name, file.code) for file in accepted.refused])
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


@dataclass(frozen=True)
class _Record:
    """The stored outcome of a request."""

    fingerprint: str
    accepted: Accepted
    published: bool = False


_RECORD = TypeAdapter(_Record)


class IdempotencyKeys:
    """The idempotency keys of accepted requests."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    @staticmethod
    def place(key: str, asker: Principal, *purpose: str) -> str:
        """Return the blob key for an idempotency key, which is scoped to owner and purpose."""
        scoped = json.dumps([asker.tenant, asker.owner, key, *purpose]).encode()
        return f"{PREFIX}/{hashlib.sha256(scoped).hexdigest()}.json"

    async def settle(self, place: str, accepted: Accepted) -> tuple[Accepted, bool]:
        """Return the outcome of the first request with this key, and whether it is published.

        Raises:
            ReusedIdempotencyKeyError: The first request was a different one.
            BlobStoreUnavailableError: The blob store does not answer.
        """
        mine = _Record(fingerprint(accepted), accepted)
        while not await self._blobs.create(place, _RECORD.dump_json(mine)):
            try:
                first = await self._first(place)
            except BlobMissingError:
                continue  # The key has just expired.
            if first.fingerprint != mine.fingerprint:
                raise ReusedIdempotencyKeyError(
                    "This Idempotency-Key was used for a request with other files or labels; "
                    "use a new key."
                )
            return first.accepted, first.published
        return accepted, False

    async def _first(self, place: str) -> _Record:
        deadline = asyncio.get_running_loop().time() + FIRST_REQUEST_TIMEOUT
        while True:
            first = _RECORD.validate_json(await self._blobs.get(place))
            if first.published or asyncio.get_running_loop().time() > deadline:
                return first
            await asyncio.sleep(POLL_INTERVAL)

    async def published(self, place: str, accepted: Accepted) -> None:
        """Record that all events are published, so that a repeat has nothing left to do.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        memory = _Record(fingerprint(accepted), accepted, published=True)
        await self._blobs.put(place, _RECORD.dump_json(memory), durable=False)

    async def sweep(self) -> int:
        """Delete expired keys.

        Returns:
            The number of deleted keys.

        Raises:
            BlobStoreUnavailableError: The blob store does not answer.
        """
        over = await self._blobs.keys(f"{PREFIX}/", before=datetime.now(UTC) - KEY_TTL)
        for place in over:
            await self._blobs.delete(place)
        return len(over)

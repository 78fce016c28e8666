"""`Idempotency-Key`: a request that is sent again is answered as it was the first time.

The key of a request is an object in the blob store, which the first request to be stored puts there
if it is absent: with a fingerprint of the request, and what is answered. Whoever comes later finds
it, wherever the first one went and however far it came; two that come side by side are both stored,
and the one that is second throws its own away. The object is there before the events are published,
so that a repeat publishes what a pod that died meanwhile could not.

After draft-ietf-httpapi-idempotency-key-header-07. What is refused leaves no key behind: it can be
mended and sent again with the same one.
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

KEPT = timedelta(days=1)
"""How long a key is remembered at least: who sends again does so within hours."""

MAX_KEY = 255
"""Characters of a key; what clients use is a UUID of 36."""

FIRST_ONE = 3.0
"""Seconds that a repeat waits for the first one to have its events published: as long as that may
take, until they go to the outbox. Then it publishes them too, which is harmless."""

LOOK_EVERY = 0.1
"""Seconds between two looks at how far the first one is."""

_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([\x21\x23-\x5b\x5d-\x7e]+)')
"""A string of RFC 8941; also a bare word, which many clients send."""


def read_key(header: str | None) -> str | None:
    """The key in the header's value; None if there is no header.

    Raises:
        BadIdempotencyKeyError: it is no string of 1 to 255 characters.
    """
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    key = found and (found[1] or found[2])
    if not key or len(key) > MAX_KEY:
        raise BadIdempotencyKeyError(
            f"An Idempotency-Key is 1 to {MAX_KEY} printable ASCII characters in double quotes, "
            'best a UUID: "8e03978e-40d5-43e8-bc93-6894a57f9324".'
        )
    return key


def fingerprint(accepted: Accepted) -> str:
    """What two requests have in common that ask for the same: their files' content, names, types
    and labels, however they are wrapped."""
    files = [(file.name, file.content_type, file.sha256) for file in accepted.files]
    told: list[object] = [files, sorted(accepted.labels.items())]
    if accepted.refused:
        told.append([(file.index, file.name, file.code) for file in accepted.refused])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@dataclass(frozen=True)
class _Memory:
    """What is remembered of a request."""

    fingerprint: str
    accepted: Accepted
    published: bool = False


_MEMORY = TypeAdapter(_Memory)


class IdempotencyKeys:
    """The keys of requests that were accepted."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    @staticmethod
    def place(key: str, asker: Principal, *purpose: str) -> str:
        """Where a key is remembered: nobody meets the keys of another owner, or purpose."""
        scoped = json.dumps([asker.tenant, asker.owner, key, *purpose]).encode()
        return f"{PREFIX}/{hashlib.sha256(scoped).hexdigest()}.json"

    async def settle(self, place: str, accepted: Accepted) -> tuple[Accepted, bool]:
        """What the first request with this key was accepted as, and whether it is published.

        Raises:
            ReusedIdempotencyKeyError: the first one was another request.
            BlobStoreUnavailableError: the blob store does not answer.
        """
        mine = _Memory(fingerprint(accepted), accepted)
        while not await self._blobs.create(place, _MEMORY.dump_json(mine)):
            try:
                first = await self._first(place)
            except BlobMissingError:
                continue  # Its time was over just now.
            if first.fingerprint != mine.fingerprint:
                raise ReusedIdempotencyKeyError(
                    "A request with other files or labels had this Idempotency-Key; "
                    "take a new key for a new request."
                )
            return first.accepted, first.published
        return accepted, False

    async def _first(self, place: str) -> _Memory:
        deadline = asyncio.get_running_loop().time() + FIRST_ONE
        while True:
            first = _MEMORY.validate_json(await self._blobs.get(place))
            if first.published or asyncio.get_running_loop().time() > deadline:
                return first
            await asyncio.sleep(LOOK_EVERY)

    async def published(self, place: str, accepted: Accepted) -> None:
        """Remember that nothing is left to do for a repeat.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
        """
        memory = _Memory(fingerprint(accepted), accepted, published=True)
        await self._blobs.put(place, _MEMORY.dump_json(memory), durable=False)

    async def sweep(self) -> int:
        """Forget the keys whose time is over; returns how many.

        Raises:
            BlobStoreUnavailableError: the blob store does not answer.
        """
        over = await self._blobs.keys(f"{PREFIX}/", before=datetime.now(UTC) - KEPT)
        for place in over:
            await self._blobs.delete(place)
        return len(over)

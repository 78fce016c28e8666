"""The keys that tokens are verified with: an issuer's published ones, or a shared secret."""

import asyncio
import json
import logging
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Protocol

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from shared.auth.accesserrors import InvalidTokenError
from shared.errors import KeysUnavailableError

log = logging.getLogger(__name__)

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Algorithms of published keys. One with a shared secret is not among them: what is published
would be the secret."""

FRESH_FOR = 300.0
"""Seconds until keys are looked for anew: how long one that the issuer withdrew may still be used
while the issuer answers."""

KEPT_FOR = 3600.0
"""Seconds that keys are used for while the issuer does not answer."""

AGAIN_AFTER = 10.0
"""Seconds between two fetches, whatever keys the tokens name: anybody can name one."""

FETCH_WITHIN = 5.0
"""Seconds until the issuer counts as not answering."""

MAX_BYTES = 1 << 18
"""Of a key set: a key has some 500."""


class SigningKeys(Protocol):
    """Finds the key that a token says it is signed with."""

    algorithms: tuple[str, ...]

    async def key(self, kid: str | None) -> PyJWK:
        """Raises:
        InvalidTokenError: there is no such key.
        KeysUnavailableError: there may be, but the issuer does not answer.
        """


class SharedSecret:
    """One secret for all tokens, for development."""

    algorithms: tuple[str, ...] = ("HS256",)

    def __init__(self, secret: bytes) -> None:
        octets = urlsafe_b64encode(secret).decode().rstrip("=")
        self._key = PyJWK.from_dict({"kty": "oct", "k": octets, "alg": "HS256"})

    async def key(self, kid: str | None) -> PyJWK:  # noqa: ARG002 - there is but one
        """The secret."""
        return self._key


class PublishedKeys:
    """The keys that an issuer publishes (JWKS, RFC 7517), kept as long as they are fresh."""

    algorithms: tuple[str, ...] = ASYMMETRIC

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, kid: str | None) -> PyJWK:
        """The key with this id."""
        if kid is None:
            raise InvalidTokenError("The token does not name its key (`kid`).")
        # While one request fetches, others go on with a key that is only no longer fresh.
        if self._is_due(kid) and not (kid in self._keys and self._fetching.locked()):
            async with self._fetching:
                if self._is_due(kid):
                    await self._fetch()
        found = self._keys.get(kid)
        answered = self._fetched == self._tried
        if self._clock() - self._fetched > KEPT_FOR or (found is None and not answered):
            raise KeysUnavailableError
        if found is None:
            raise InvalidTokenError("The token is signed with a key that its issuer does not have.")
        return found

    def _is_due(self, kid: str) -> bool:
        now = self._clock()
        is_wanted = kid not in self._keys or now - self._fetched > FRESH_FOR
        return is_wanted and now - self._tried > AGAIN_AFTER

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            # A client for each fetch: there is one every few minutes.
            async with asyncio.timeout(FETCH_WITHIN), httpx.AsyncClient() as http:
                self._keys = _usable(await _read(http, self._url))
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("the keys at %s could not be fetched: %r", self._url, error)
        else:
            self._fetched = self._tried


async def _read(http: httpx.AsyncClient, url: str) -> bytes:
    async with http.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the answer was {response.status_code}")
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"there are more than {MAX_BYTES} bytes")
        return body


def _usable(body: bytes) -> dict[str, PyJWK]:
    """The keys of a set that verify signatures, by their ids; others are passed over.

    Raises:
        ValueError: it is no key set.
    """
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("it is no key set")
    keys = {}
    for entry in document["keys"]:
        try:
            key = PyJWK.from_dict(entry)
        except (PyJWTError, ValueError, TypeError, AttributeError):
            continue
        is_for_signatures = key.public_key_use in (None, "sig") and key.algorithm_name in ASYMMETRIC
        if key.key_id is not None and is_for_signatures:
            keys[key.key_id] = key
    return keys

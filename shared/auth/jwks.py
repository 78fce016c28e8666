"""Keys that verify tokens: an issuer's published keys or a shared secret."""

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
"""Algorithms of published keys. Symmetric ones are excluded: they would publish the secret."""

FRESH_FOR = 300.0
"""Seconds until cached keys are fetched again. A withdrawn key may still be used for this long, or
longer while the issuer is unreachable."""

KEPT_FOR = 3600.0
"""Seconds for which cached keys stay valid while the issuer is unreachable."""

AGAIN_AFTER = 10.0
"""Minimum seconds between two fetches. Anyone can send tokens that name unknown keys."""

FETCH_WITHIN = 5.0
"""Seconds until a request to the issuer times out."""

MAX_BYTES = 1 << 18
"""Maximum bytes of a key set. A key has about 500 bytes."""


class SigningKeys(Protocol):
    """Finds the key that verifies a token."""

    algorithms: tuple[str, ...]

    async def key(self, kid: str | None) -> PyJWK:
        """Return the key with this id.

        Raises:
            InvalidTokenError: the key does not exist.
            KeysUnavailableError: the key is not cached and the issuer is unreachable.
        """


class SharedSecret:
    """One secret for all tokens, for development."""

    algorithms: tuple[str, ...] = ("HS256",)

    def __init__(self, secret: bytes) -> None:
        octets = urlsafe_b64encode(secret).decode().rstrip("=")
        self._key = PyJWK.from_dict({"kty": "oct", "k": octets, "alg": "HS256"})

    async def key(self, kid: str | None) -> PyJWK:  # noqa: ARG002 - there is only one
        """Return the secret, whatever the id."""
        return self._key


class PublishedKeys:
    """The keys that an issuer publishes (JWKS, RFC 7517), cached for `FRESH_FOR` seconds."""

    algorithms: tuple[str, ...] = ASYMMETRIC

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, kid: str | None) -> PyJWK:
        """Return the key with this id; see `SigningKeys.key`."""
        if kid is None:
            raise InvalidTokenError("The token does not name its key (`kid`).")
        # While one request fetches, others use the cached key although it is stale.
        if self._is_due(kid) and not (kid in self._keys and self._fetching.locked()):
            async with self._fetching:
                if self._is_due(kid):
                    await self._fetch()
        found = self._keys.get(kid)
        answered = self._fetched == self._tried
        if self._clock() - self._fetched > KEPT_FOR or (found is None and not answered):
            raise KeysUnavailableError
        if found is None:
            raise InvalidTokenError("The issuer does not publish the key that signed the token.")
        return found

    def _is_due(self, kid: str) -> bool:
        now = self._clock()
        is_wanted = kid not in self._keys or now - self._fetched > FRESH_FOR
        return is_wanted and now - self._tried > AGAIN_AFTER

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            # One client per fetch is enough: fetches are minutes apart.
            async with asyncio.timeout(FETCH_WITHIN), httpx.AsyncClient() as http:
                self._keys = _usable(await _read(http, self._url))
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            log.warning("the keys at %s could not be fetched: %r", self._url, error)
        else:
            self._fetched = self._tried


async def _read(http: httpx.AsyncClient, url: str) -> bytes:
    async with http.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"the response status was {response.status_code}")
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise ValueError(f"the key set is larger than {MAX_BYTES} bytes")
        return body


def _usable(body: bytes) -> dict[str, PyJWK]:
    """Return the keys of a set that verify signatures, by id; other keys are skipped.

    Raises:
        ValueError: the body is not a key set.
    """
    document = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("the response is not a key set")
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

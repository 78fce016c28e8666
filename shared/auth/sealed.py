"""Records in the blob store that only who has the secret of the installation can write.

An API key or a webhook in the blob store would otherwise be whatever somebody wrote there who can
write blobs. So each carries an HMAC-SHA-256 (RFC 2104) over its place and its content, as the last
field of its JSON object. Earlier versions read past that field.
"""

import hashlib
import hmac
import logging
import re

from shared.settings import MIN_SECRET, AccessSettings, SealSettings

log = logging.getLogger(__name__)

_PURPOSE = b"waybill: records in the blob store"
"""A secret that also signs tokens never signs the same bytes for both."""

_SEAL = re.compile(rb',"seal":"([0-9a-f]{64})"\}\s*\Z')

SEALED_FOLDERS = ("keys/", "webhooks/")
"""Below these, every record is sealed."""


class Seal:
    """Seals records, and knows those that it has sealed."""

    def __init__(self, secret: bytes | None) -> None:
        """Args:
        secret: of the installation; None if it has none: then nothing is sealed, and all counts.
        """
        self._key = None if secret is None else hmac.digest(secret, _PURPOSE, hashlib.sha256)

    @property
    def is_set(self) -> bool:
        """Whether the installation has a secret."""
        return self._key is not None

    def close(self, place: str, record: bytes) -> bytes:
        """Return the record with its seal.

        Args:
            place: its key in the blob store: a seal is for one place.
            record: a JSON object with at least one field.
        """
        record = _without_seal(record)
        if self._key is None:
            return record
        body = record.rstrip()
        if not body.startswith(b"{") or not body.endswith(b"}") or len(body) <= len(b"{}"):
            raise ValueError(f"{place} is no JSON object with fields")
        return body[:-1] + b',"seal":"' + self._mac(place, body).encode() + b'"}'

    def is_intact(self, place: str, record: bytes) -> bool:
        """Return whether the record counts: sealed for this place and not changed since."""
        if self._key is None:
            return True
        found = _SEAL.search(record)
        if found is None:
            return False
        return hmac.compare_digest(
            found[1].decode(), self._mac(place, record[: found.start()] + b"}")
        )

    def open(self, place: str, record: bytes) -> bytes | None:
        """Return the record, or None if it does not count, which is logged."""
        if self.is_intact(place, record):
            return record
        log.warning(
            "%s has no valid seal and is ignored: somebody else wrote it, or it is of an earlier "
            "version (`waybill keys sign`)",
            place,
        )
        return None

    def _mac(self, place: str, body: bytes) -> str:
        assert self._key is not None  # noqa: S101 - both callers have checked it
        message = place.encode() + b"\0" + body
        return hmac.digest(self._key, message, hashlib.sha256).hex()


def _without_seal(record: bytes) -> bytes:
    found = _SEAL.search(record)
    return record if found is None else record[: found.start()] + b"}"


UNSEALED = Seal(None)


def seal_of(settings: SealSettings) -> Seal:
    """Return the seal of the installation that the settings describe."""
    secret = _secret_of(settings)
    if secret is None and isinstance(settings, AccessSettings) and settings.auth == "jwt":
        log.warning(
            "API keys and webhooks are not sealed: whoever can write to the blob store can make "
            "some. Set WAYBILL_SEAL_SECRET and run `waybill keys sign`."
        )
    return Seal(secret)


def _secret_of(settings: SealSettings) -> bytes | None:
    for secret in (settings.seal_secret, settings.auth_secret):
        value = b"" if secret is None else secret.get_secret_value().encode()
        if len(value) >= MIN_SECRET:  # An empty variable is no secret, nor is what can be guessed.
            return value
    return None

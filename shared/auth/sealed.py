"""Sealed records in the blob store, which can only be written with the installation's secret.

Otherwise, anyone with write access to the blob store could create API keys and webhooks. Each
record therefore carries an HMAC-SHA-256 (RFC 2104) of its key and its content, as the last field of
its JSON object. Earlier versions ignore that field.
"""

import hashlib
import hmac
import logging
import re

from shared.settings import MIN_SECRET, AccessSettings, SealSettings

log = logging.getLogger(__name__)

_PURPOSE = b"waybill: records in the blob store"
"""Separates this use of the secret from others: a secret that also signs tokens never signs the
same bytes for both."""

_SEAL = re.compile(rb',"seal":"([0-9a-f]{64})"\}\s*\Z')

SEALED_FOLDERS = ("keys/", "webhooks/")
"""Key prefixes under which every record is sealed."""


class Seal:
    """Seals records and verifies their seals."""

    def __init__(self, secret: bytes | None) -> None:
        """Create a seal.

        Args:
            secret: secret of the installation; with None, nothing is sealed and all records count.
        """
        self._key = None if secret is None else hmac.digest(secret, _PURPOSE, hashlib.sha256)

    @property
    def is_set(self) -> bool:
        """Return True if the installation has a secret."""
        return self._key is not None

    def close(self, place: str, record: bytes) -> bytes:
        """Return the record with its seal.

        Args:
            place: key of the record in the blob store; a seal is valid for one key only.
            record: a JSON object with at least one field.
        """
        record = _without_seal(record)
        if self._key is None:
            return record
        body = record.rstrip()
        if not body.startswith(b"{") or not body.endswith(b"}") or len(body) <= len(b"{}"):
            raise ValueError(f"{place} is not a JSON object with fields")
        return body[:-1] + b',"seal":"' + self._mac(place, body).encode() + b'"}'

    def is_intact(self, place: str, record: bytes) -> bool:
        """Return True if the record is sealed for this key and unchanged since."""
        if self._key is None:
            return True
        found = _SEAL.search(record)
        if found is None:
            return False
        return hmac.compare_digest(
            found[1].decode(), self._mac(place, record[: found.start()] + b"}")
        )

    def open(self, place: str, record: bytes) -> bytes | None:
        """Return the record, or log a warning and return None if it has no valid seal."""
        if self.is_intact(place, record):
            return record
        log.warning(
            "%s has no valid seal and is ignored: it was written without the secret, or by an "
            "earlier version (run `waybill keys sign`)",
            place,
        )
        return None

    def _mac(self, place: str, body: bytes) -> str:
        assert self._key is not None  # noqa: S101 - both callers check it
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
            "API keys and webhooks are not sealed: anyone who can write to the blob store can "
            "create them. Set WAYBILL_SEAL_SECRET and run `waybill keys sign`."
        )
    return Seal(secret)


def _secret_of(settings: SealSettings) -> bytes | None:
    for secret in (settings.seal_secret, settings.auth_secret):
        value = b"" if secret is None else secret.get_secret_value().encode()
        if len(value) >= MIN_SECRET:  # Empty or short values are not secrets.
            return value
    return None

"""Sealed cursors: opaque to clients.

A cursor is a vector of offsets. Its values, and the server's answers to forged ones, would reveal
how many events all tenants produce. Cursors are therefore encrypted and authenticated (AES-256-GCM)
with a key that all status pods share through MongoDB. A cursor that was sealed with another key, or
not sealed by an earlier version, counts as too old: the stream begins with a `reset`.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.status.live.cursor import MAX_LENGTH, StreamCursor, decode, encode
from services.status.store.store import FileStore, translated
from shared.errors import BadParameterError

SEALED = b"\x02"
"""First byte of a sealed cursor. An unsealed one begins with `VERSION` of `cursor.py`."""

NONCE_BYTES = 12
KEY_BITS = 256
TAG_BYTES = 16

BLOCK = 64
"""Cursors are padded to a multiple of this many bytes, because their length would reveal large
offsets."""

TOO_OLD: StreamCursor = {}
"""A cursor before all events."""


class CursorSeal:
    """Seals cursors, and opens those that clients send."""

    def __init__(self, key: bytes | None = None) -> None:
        """Create a seal.

        Args:
            key: 32 bytes; by default a random key of this pod.
        """
        self._cipher = AESGCM(key or AESGCM.generate_key(KEY_BITS))

    def use(self, key: bytes) -> None:
        """Use the key of the installation from now on."""
        self._cipher = AESGCM(key)

    def seal(self, cursor: StreamCursor) -> str:
        """Return the sealed cursor that clients receive: base64url without padding."""
        plain = encode(cursor).encode()
        plain += b"=" * (-len(plain) % BLOCK)
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = SEALED + nonce + self._cipher.encrypt(nonce, plain, SEALED)
        return urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, text: str) -> StreamCursor:
        """Return the cursor that a client sent, or `TOO_OLD` if it cannot be opened.

        Raises:
            BadParameterError: the text is not a cursor.
        """
        try:
            if len(text) > MAX_LENGTH:
                raise ValueError("too long")
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise BadParameterError(
                f"cursor={text[:40]!r} is not valid. Send a cursor that the stream returned."
            ) from error
        if not sealed.startswith(SEALED) or len(sealed) <= 1 + NONCE_BYTES + TAG_BYTES:
            decode(text)  # Accept a cursor of an earlier version; reject anything else.
            return TOO_OLD
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            plain = self._cipher.decrypt(nonce, rest, SEALED)
        except InvalidTag:
            return TOO_OLD
        return decode(plain.rstrip(b"=").decode())


@translated
async def installation_key(store: FileStore) -> bytes:
    """Return the cursor key of the installation. The first pod creates it.

    Raises:
        MongoUnavailableError: MongoDB is unavailable.
    """
    secrets_ = store.beside("secrets")
    await secrets_.update_one(
        {"_id": "cursor_key"},
        {"$setOnInsert": {"key": AESGCM.generate_key(KEY_BITS)}},
        upsert=True,
    )
    found = await secrets_.find_one({"_id": "cursor_key"})
    if found is None:
        raise RuntimeError("the cursor key was removed from MongoDB while it was being read")
    return bytes(found["key"])

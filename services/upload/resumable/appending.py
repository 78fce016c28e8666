"""Split the body of a request to a resumable upload into parts as it arrives."""

import asyncio
import base64
import hashlib
import time
from dataclasses import dataclass

from starlette.requests import ClientDisconnect

from shared.blobs.directory import Read
from shared.blobs.files import Piece
from shared.errors import (
    BadParameterError,
    ChecksumMismatchError,
    StalledUploadError,
    TooLargeError,
)

PART = 64 << 20
"""Minimum bytes of a full part: 80 parts for 5 GiB."""

PART_SECONDS = 10.0
"""Minimum seconds of a full part. A crash loses at most one part, and an upload of a single part
need not be written twice."""

LARGEST_PART = 1 << 30
"""Maximum bytes of a part: an object store can copy that many within its timeout."""

ALGORITHMS = ("sha1", "sha256", "md5")
"""Supported checksum algorithms; tus requires the first."""


@dataclass(frozen=True)
class Checksum:
    """A client's checksum of the bytes of one request."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, header: str) -> "Checksum":
        """Parse `Upload-Checksum`.

        Raises:
            BadParameterError: The header is malformed or the algorithm unsupported.
        """
        algorithm, _, encoded = header.partition(" ")
        try:
            digest = base64.b64decode(encoded, validate=True)
        except ValueError:
            digest = b""
        if algorithm not in ALGORITHMS or not digest:
            raise BadParameterError(
                "The Upload-Checksum is malformed; send one of "
                f"{', '.join(ALGORITHMS)}, a space, and the base64 digest."
            )
        return cls(algorithm, digest)


class Incoming:
    """The body of one request, part by part.

    Bytes that arrive before a disconnect become a part too. With a checksum, which covers the whole
    body, the body is one part or nothing.
    """

    def __init__(
        self, read: Read, *, left: int, checksum: Checksum | None, asked_to_end: asyncio.Event
    ) -> None:
        """Initialize the reader.

        Args:
            read: Returns the next piece of the body; b"" at its end.
            left: Bytes that the upload still lacks.
            checksum: The client's checksum, if it sent one.
            asked_to_end: Set when another request takes over the upload.
        """
        self._read = read
        self._left = left
        self._checksum = checksum
        # Not for security: the client chose it to detect transmission errors.
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._asked_to_end = asked_to_end
        self._next: Piece = b""
        self.received = 0
        """Bytes received so far."""
        self.size = 0
        """Bytes of the current part so far."""
        self._part_begun = 0.0
        self.broken: Exception | None = None
        """The error that ended the body early, if any."""

    async def has_next_part(self) -> bool:
        """Return True if there is another part, which `read_part` then reads."""
        self.size = 0
        self._part_begun = time.monotonic()
        self._next = self._next or await self._read_next()
        return bool(self._next)

    async def read_part(self) -> Piece:
        """Return the next piece of the part; b"" at its end.

        Raises:
            TooLargeError: The body has more bytes than the upload lacks.
            ChecksumMismatchError: The bytes do not match the checksum.
            ClientDisconnect, StalledUploadError: The body ended early and has a checksum.
        """
        if self._checksum is None and self._is_full():
            return b""
        piece, self._next = self._next or await self._read_next(), b""
        self.size += len(piece)
        return piece

    def _is_full(self) -> bool:
        seconds = time.monotonic() - self._part_begun
        return self.size >= (PART if seconds >= PART_SECONDS else LARGEST_PART)

    async def _read_next(self) -> Piece:
        try:
            piece = await self._read_until_asked()
        except (ClientDisconnect, StalledUploadError) as error:
            if self._checksum is not None:
                raise
            self.broken = error
            return b""
        self.received += len(piece)
        if self.received > self._left:
            raise TooLargeError(
                f"The upload lacks {self._left} bytes, but the request has more; "
                "get the offset with HEAD."
            )
        if self._checksum is not None and self._hash is not None:
            self._hash.update(piece)
            if not piece and self._hash.digest() != self._checksum.digest:
                raise ChecksumMismatchError(
                    "The bytes do not match the Upload-Checksum; send them again."
                )
        return piece

    async def _read_until_asked(self) -> Piece:
        if self.broken is not None:
            return b""
        reading = asyncio.ensure_future(self._read())
        asked = asyncio.ensure_future(self._asked_to_end.wait())
        try:
            await asyncio.wait({reading, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise ClientDisconnect
            return reading.result()
        finally:
            reading.cancel()
            asked.cancel()

"""What one request brings to a resumable upload, cut into parts as it arrives."""

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
"""Bytes after which a part may end: 80 parts for 5 GiB."""

PART_SECONDS = 10.0
"""How long a part takes at least. A pod that is killed may lose one part; and an upload of one part
need not be written twice."""

LARGEST_PART = 1 << 30
"""Bytes after which it ends in any case: what an object store copies in the time it has."""

ALGORITHMS = ("sha1", "sha256", "md5")
"""Of checksums; tus asks for the first."""


@dataclass(frozen=True)
class Checksum:
    """What a client says of the bytes of one request."""

    algorithm: str
    digest: bytes

    @classmethod
    def read(cls, header: str) -> "Checksum":
        """From `Upload-Checksum`.

        Raises:
            BadParameterError: it is none that we know.
        """
        algorithm, _, encoded = header.partition(" ")
        try:
            digest = base64.b64decode(encoded, validate=True)
        except ValueError:
            digest = b""
        if algorithm not in ALGORITHMS or not digest:
            raise BadParameterError(
                f"An Upload-Checksum is one of {', '.join(ALGORITHMS)}, a space, and the digest in "
                "base64."
            )
        return cls(algorithm, digest)


class Incoming:
    """The body of one request, part by part.

    What came before the connection broke is a part as well, unless there is a checksum, which tells
    of all: then it is one part or nothing.
    """

    def __init__(
        self, read: Read, *, left: int, checksum: Checksum | None, asked_to_end: asyncio.Event
    ) -> None:
        """Args:
        left: bytes that the upload lacks.
        asked_to_end: set when somebody else wants to go on with the upload.
        """
        self._read = read
        self._left = left
        self._checksum = checksum
        # usedforsecurity: the client chose it, to find what the line has changed.
        self._hash = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        self._asked_to_end = asked_to_end
        self._next: Piece = b""
        self.received = 0
        """Bytes so far."""
        self.size = 0
        """Bytes of the present part so far."""
        self._part_begun = 0.0
        self.broken: Exception | None = None
        """Why there is no more, if the body did not come to its end."""

    async def begins_part(self) -> bool:
        """Whether there is another part; `read_part` gives it."""
        self.size = 0
        self._part_begun = time.monotonic()
        self._next = self._next or await self._pull()
        return bool(self._next)

    async def read_part(self) -> Piece:
        """The next piece of the part; b"" at its end.

        Raises:
            TooLargeError: there is more than the upload lacks.
            ChecksumMismatchError: these are not the bytes that the checksum tells of.
            ClientDisconnect, StalledUploadError: the body broke off, and it has a checksum.
        """
        if self._checksum is None and self._is_enough():
            return b""
        piece, self._next = self._next or await self._pull(), b""
        self.size += len(piece)
        return piece

    def _is_enough(self) -> bool:
        seconds = time.monotonic() - self._part_begun
        return self.size >= (PART if seconds >= PART_SECONDS else LARGEST_PART)

    async def _pull(self) -> Piece:
        try:
            piece = await self._read_unless_asked()
        except (ClientDisconnect, StalledUploadError) as error:
            if self._checksum is not None:
                raise
            self.broken = error
            return b""
        self.received += len(piece)
        if self.received > self._left:
            raise TooLargeError(f"The upload lacks {self._left} bytes, and more came; ask by HEAD.")
        if self._checksum is not None and self._hash is not None:
            self._hash.update(piece)
            if not piece and self._hash.digest() != self._checksum.digest:
                raise ChecksumMismatchError("The bytes changed on their way; send them again.")
        return piece

    async def _read_unless_asked(self) -> Piece:
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

"""A request's body as the files in it, whichever way the client wrapped them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from services.upload.multipart import Part, read_parts
from services.upload.names import (
    UNNAMED,
    clean_name,
    decode_header,
    file_name,
    media_type,
    parse_header,
)
from services.upload.settings import UploadSettings
from shared.errors import (
    BadParameterError,
    BrokenMultipartError,
    ForbiddenTypeError,
    LengthMismatchError,
    StalledUploadError,
    TooLargeError,
)

FILE_PART = "file"

MAX_FIELD = 4096
"""Bytes of a form field's value; fields carry labels, not files."""

_UNDECLARED = frozenset({"application/octet-stream", "application/x-www-form-urlencoded"})
"""Types that say nothing of a file: what is sent for want of a better one, and what curl sends
with `--data-binary`."""

_IDENTITY_CODINGS = frozenset({"7bit", "8bit", "binary"})
"""What a part may say of its transfer: that the bytes are the bytes. RFC 7578 knows no other."""


@dataclass(frozen=True, kw_only=True)
class IncomingFile:
    """A file on its way in: what the client says of it, and its content as it arrives."""

    name: str
    declared_type: str | None
    chunks: AsyncIterator[bytes]


class IncomingBody:
    """The files of one request, read once and in order, and the fields that came with them."""

    def __init__(self, request: Request, settings: UploadSettings) -> None:
        self._request = request
        self._settings = settings
        self.fields = list(request.query_params.multi_items())
        """Query parameters and form fields; complete when the last file is read."""

    @property
    def idempotency_key(self) -> str | None:
        """The header's value, as it came."""
        return self._request.headers.get("idempotency-key")

    async def files(self) -> AsyncIterator[IncomingFile]:
        """The files; each one's chunks are to be read before the next is asked for.

        Raises:
            RefusedError: the body is too large, too slow, broken, or not as long as announced.
            ClientDisconnect: the client went away.
        """
        coding = self._request.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise ForbiddenTypeError(
                f"Content-Encoding {coding[:80]!r} is not read; send the file as it is."
            )
        kind, parameters = parse_header(self._request.headers.get("content-type", ""))
        if kind != "multipart/form-data":
            yield self._raw_file()
            return
        if not parameters.get("boundary"):
            raise BrokenMultipartError(
                "The Content-Type names no boundary; let the HTTP client write that header itself."
            )
        chunks = self._chunks(self._settings.request_limit)
        async for part in read_parts(chunks, parameters["boundary"]):
            if (file := await self._file_or_field(part)) is not None:
                yield file

    def _raw_file(self) -> IncomingFile:
        headers = self._request.headers
        disposition = decode_header(headers.get("content-disposition", "").encode("latin-1"))
        _, parameters = parse_header(disposition)
        given = self._request.query_params.get("name") or file_name(parameters) or UNNAMED
        return IncomingFile(
            name=clean_name(given),
            declared_type=_declared(headers.get("content-type")),
            chunks=self._chunks(self._settings.max_file_size),
        )

    async def _file_or_field(self, part: Part) -> IncomingFile | None:
        _, parameters = parse_header(part.headers.get("content-disposition", ""))
        field, given = parameters.get("name"), file_name(parameters)
        if field is None:
            raise BrokenMultipartError(
                'A part has no name; its Content-Disposition must be `form-data; name="..."`.'
            )
        coding = part.headers.get("content-transfer-encoding", "binary").lower()
        if coding not in _IDENTITY_CODINGS:
            raise BrokenMultipartError(
                f"Content-Transfer-Encoding {coding[:80]!r} is not read; send the part as it is."
            )
        if field == FILE_PART:
            return IncomingFile(
                name=clean_name(given or UNNAMED),
                declared_type=_declared(part.headers.get("content-type")),
                chunks=part.chunks(),
            )
        if given:
            raise BadParameterError(
                f"The part {field[:80]!r} carries a file; send files in parts named {FILE_PART!r}."
            )
        self.fields.append((field, await _field_value(field, part)))
        return None

    async def _chunks(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes from the client, its length and pace checked."""
        length = self._request.headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else None
        if announced is not None and announced > limit:
            raise TooLargeError(f"The request has {announced} bytes; at most {limit} are accepted.")
        received = 0
        stream = self._request.stream()
        while chunk := await self._next(stream):
            received += len(chunk)
            if received > limit:
                raise TooLargeError(f"The request has more than the {limit} bytes accepted.")
            yield chunk
        if announced is not None and received != announced:
            raise LengthMismatchError(
                f"Content-Length says {announced} bytes, {received} came; send it again."
            )

    async def _next(self, stream: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._settings.idle_timeout):
                return await anext(stream, b"")
        except TimeoutError as error:
            raise StalledUploadError(
                f"Nothing came for {self._settings.idle_timeout:g} seconds; send it again."
            ) from error


def _declared(content_type: str | None) -> str | None:
    declared = media_type(content_type)
    return None if declared in _UNDECLARED else declared


async def _field_value(field: str, part: Part) -> str:
    value = b""
    async for chunk in part.chunks():
        value += chunk
        if len(value) > MAX_FIELD:
            raise BadParameterError(
                f"The field {field[:80]!r} has more than {MAX_FIELD} bytes; only files may."
            )
    return value.decode(errors="replace")

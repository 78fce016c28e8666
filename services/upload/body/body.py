"""Read the files of a request, from a raw body or a multipart form."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from services.upload.body.multipart import Part, Parts
from services.upload.body.names import (
    UNNAMED,
    charset,
    clean_name,
    decode_header,
    file_name,
    media_type,
    parse_header,
)
from services.upload.body.splitting import Whole
from services.upload.coarse_timeouts import CoarseTimeouts
from services.upload.settings import UploadSettings
from shared.blobs.directory import Read
from shared.errors import (
    BadParameterError,
    BrokenMultipartError,
    ForbiddenTypeError,
    LengthMismatchError,
    StalledUploadError,
    TooLargeError,
)

FILE_PART = "file"

_NO_QUERY = QueryParams()

MAX_FIELD = 4096
"""Maximum bytes of a form field's value. Fields carry labels, not files."""

_UNDECLARED = frozenset({"application/octet-stream", "application/x-www-form-urlencoded"})
"""Content types that say nothing about a file: the generic fallback, and curl's default for
`--data-binary`."""

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_BOUNDARY = re.compile(r";\s*boundary\s*[*=]", re.IGNORECASE)
"""The boundary parameter in any spelling that a parser may accept. Browsers also use the word
`boundary` inside its value, so quoted strings are removed first."""

_IDENTITY_CODINGS = frozenset({"7bit", "8bit", "binary"})
"""Transfer encodings that leave the bytes unchanged, the only ones that RFC 7578 permits."""


@dataclass(frozen=True, kw_only=True)
class IncomingFile:
    """An incoming file: the client's description, and the content as it arrives."""

    name: str
    declared_type: str | None
    declared_charset: str | None = None
    read: Read
    """Returns the next piece of the content; b"" at its end."""
    is_part: bool = False
    """True for a part of a form, which other files may follow."""
    chosen: bool = True
    """False for the nameless part that a browser sends if the user chose no file."""


class Body(Protocol):
    """The files of one upload, and the fields that come with them."""

    fields: list[tuple[str, str]]
    """Complete once the last file is read."""

    @property
    def idempotency_key(self) -> str | None: ...

    @property
    def announced(self) -> int | None:
        """Announced size in bytes; None if unknown."""

    def files(self) -> AsyncIterator[IncomingFile]:
        """Yield the files. Read each one before requesting the next."""


class IncomingBody:
    """The files and fields of one request, read once and in order."""

    def __init__(
        self, request: Request, settings: UploadSettings, timeouts: CoarseTimeouts
    ) -> None:
        self._receive = request.receive
        self._settings = settings
        self._timeouts = timeouts
        # Starlette searches the whole list for each header, so build a dictionary once.
        headers = request.scope["headers"]
        self._headers = {name: value.decode("latin-1") for name, value in headers}
        query = request.query_params if request.scope["query_string"] else _NO_QUERY
        self._name = query.get("name")
        self.fields = query.multi_items()
        """Query parameters and form fields; complete once the last file is read."""

    @property
    def idempotency_key(self) -> str | None:
        """The value of the header, unparsed."""
        return self._headers.get(b"idempotency-key")

    async def files(self) -> AsyncIterator[IncomingFile]:
        """Yield the files. Read each one before requesting the next.

        Raises:
            RefusedError: The body is too large, too slow or malformed, or its length differs from
                Content-Length.
            ClientDisconnect: The client disconnected.
        """
        coding = self._headers.get(b"content-encoding", "identity")
        if coding != "identity":
            raise ForbiddenTypeError(
                f"Content-Encoding {coding[:80]!r} is not supported; send the file unencoded."
            )
        content_type = self._headers.get(b"content-type", "")
        kind, parameters = parse_header(content_type)
        if kind != "multipart/form-data":
            yield self._raw_file()
            return
        if not parameters.get("boundary"):
            raise BrokenMultipartError(
                "The Content-Type has no boundary; let the HTTP client set this header."
            )
        if len(_BOUNDARY.findall(_QUOTED.sub('""', content_type))) > 1:
            raise BrokenMultipartError(
                "The Content-Type has more than one boundary; send exactly one."
            )
        parts = Parts(self.bytes(self._settings.request_limit).read, parameters["boundary"])
        while (part := await parts.next()) is not None:
            if (file := await self._file_or_field(part)) is not None:
                yield file

    def bytes(self, limit: int | None = None) -> "_BodyReader":
        """Return a reader of the raw body.

        Args:
            limit: Maximum size in bytes. Defaults to the maximum size of a file.
        """
        return _BodyReader(
            self._receive,
            announced=self.announced,
            limit=limit or self._settings.max_file_size,
            timeouts=self._timeouts,
            idle_timeout=self._settings.idle_timeout,
            min_rate=self._settings.min_rate,
        )

    @property
    def announced(self) -> int | None:
        """Size of the body in bytes according to Content-Length; None if the header is absent."""
        length = self._headers.get(b"content-length", "")
        return int(length) if length.isdecimal() else None

    def _raw_file(self) -> IncomingFile:
        disposition = self._headers.get(b"content-disposition", "").encode("latin-1")
        _, parameters = parse_header(decode_header(disposition))
        return IncomingFile(
            name=clean_name(self._name or file_name(parameters) or UNNAMED),
            declared_type=declared_type(self._headers.get(b"content-type")),
            declared_charset=charset(self._headers.get(b"content-type")),
            read=self.bytes().read,
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
                f"Content-Transfer-Encoding {coding[:80]!r} is not supported; "
                "send the part unencoded."
            )
        if field == FILE_PART:
            return IncomingFile(
                name=clean_name(given or UNNAMED),
                declared_type=declared_type(part.headers.get("content-type")),
                declared_charset=charset(part.headers.get("content-type")),
                read=part.read,
                is_part=True,
                chosen=bool(given),
            )
        if given:
            raise BadParameterError(
                f"The part {field[:80]!r} contains a file; send files in parts named {FILE_PART!r}."
            )
        self.fields.append((field, await _field_value(field, part)))
        return None


class _BodyReader:
    """Reads the body from the client and checks its length and rate."""

    def __init__(
        self,
        receive: Receive,
        *,
        announced: int | None,
        limit: int,
        timeouts: CoarseTimeouts,
        idle_timeout: float,
        min_rate: float,
    ) -> None:
        """Initialize the reader.

        Args:
            announced: Size of the body in bytes according to the client, if known.
            limit: Maximum size in bytes.
            timeouts: Timeouts for each wait.
            idle_timeout: Seconds without data after which the upload is aborted.
            min_rate: Minimum average bytes per second, once `idle_timeout` has passed.

        Raises:
            TooLargeError: The announced size exceeds the limit.
        """
        if announced is not None and announced > limit:
            raise TooLargeError(f"The request has {announced} bytes; the limit is {limit}.")
        self._receive = receive
        self._announced = announced
        self._limit = limit
        self._timeouts = timeouts
        self._idle_timeout = idle_timeout
        self._min_rate = min_rate
        self._waited = 0.0
        """Seconds spent waiting for the client so far."""
        self._received = 0
        self._more = True

    async def read(self) -> Whole:
        """Return the next piece of the body; b"" at its end.

        Raises:
            RefusedError: The body is too large or too slow, or its length differs from
                Content-Length.
            ClientDisconnect: The client disconnected.
        """
        while self._more:
            message = await self._next_message()
            self._more = message.get("more_body", False)
            chunk: Whole = message.get("body", b"")
            if chunk:
                self._received += len(chunk)
                if self._received > self._limit:
                    raise TooLargeError(
                        f"The request has more bytes than the limit of {self._limit}."
                    )
                return chunk
        if self._announced not in (None, self._received):
            raise LengthMismatchError(
                f"Content-Length says {self._announced} bytes, {self._received} came; "
                "send the request again."
            )
        return b""

    async def _next_message(self) -> Message:
        clock = asyncio.get_running_loop().time
        begun = clock()
        left = self._idle_timeout + self._received / self._min_rate - self._waited
        try:
            with self._timeouts.timeout(min(self._idle_timeout, left)):
                message = await self._receive()
        except TimeoutError as error:
            if left < self._idle_timeout:
                raise StalledUploadError(
                    f"The upload is slower than {self._min_rate:g} bytes a second; send it again "
                    "over a faster connection, or send a smaller file."
                ) from error
            raise StalledUploadError(
                f"No data arrived for {self._idle_timeout:g} seconds; send the file again."
            ) from error
        self._waited += clock() - begun
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message


def declared_type(content_type: str | None) -> str | None:
    """Return the media type that a Content-Type declares; None if it is absent or generic."""
    declared = media_type(content_type)
    return None if declared in _UNDECLARED else declared


async def _field_value(field: str, part: Part) -> str:
    value = b""
    while chunk := await part.read():
        value += chunk
        if len(value) > MAX_FIELD:
            raise BadParameterError(
                f"The field {field[:80]!r} has more than {MAX_FIELD} bytes; shorten its value."
            )
    return value.decode(errors="replace")

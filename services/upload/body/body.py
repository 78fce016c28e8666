"""A request's body as the files in it, whichever way the client wrapped them."""

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
"""Bytes of a form field's value; fields carry labels, not files."""

_UNDECLARED = frozenset({"application/octet-stream", "application/x-www-form-urlencoded"})
"""Types that say nothing of a file: what is sent for want of a better one, and what curl sends
with `--data-binary`."""

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_BOUNDARY = re.compile(r";\s*boundary\s*[*=]", re.IGNORECASE)
"""The parameter as any reader may find it. Browsers have the word in its value as well."""

_IDENTITY_CODINGS = frozenset({"7bit", "8bit", "binary"})
"""What a part may say of its transfer: that the bytes are the bytes. RFC 7578 knows no other."""


@dataclass(frozen=True, kw_only=True)
class IncomingFile:
    """A file on its way in: what the client says of it, and its content as it arrives."""

    name: str
    declared_type: str | None
    declared_charset: str | None = None
    read: Read
    """The next piece of the content; b"" at its end."""
    is_part: bool = False
    """Whether it is a part of a form: other files may follow."""
    chosen: bool = True
    """Whether there is a file at all: a browser sends a nameless part where none was chosen."""


class Body(Protocol):
    """The files that somebody hands over, and the fields that come with them."""

    fields: list[tuple[str, str]]
    """Complete when the last file is read."""

    @property
    def idempotency_key(self) -> str | None: ...

    @property
    def announced(self) -> int | None:
        """Bytes that there are to be, if that was told."""

    def files(self) -> AsyncIterator[IncomingFile]:
        """The files; each one is to be read before the next is asked for."""


class IncomingBody:
    """The files of one request, read once and in order, and the fields that came with them."""

    def __init__(
        self, request: Request, settings: UploadSettings, timeouts: CoarseTimeouts
    ) -> None:
        self._receive = request.receive
        self._settings = settings
        self._timeouts = timeouts
        # Asking Starlette for each header looks through all of them each time.
        headers = request.scope["headers"]
        self._headers = {name: value.decode("latin-1") for name, value in headers}
        query = request.query_params if request.scope["query_string"] else _NO_QUERY
        self._name = query.get("name")
        self.fields = query.multi_items()
        """Query parameters and form fields; complete when the last file is read."""

    @property
    def idempotency_key(self) -> str | None:
        """The header's value, as it came."""
        return self._headers.get(b"idempotency-key")

    async def files(self) -> AsyncIterator[IncomingFile]:
        """The files; each one is to be read before the next is asked for.

        Raises:
            RefusedError: the body is too large, too slow, broken, or not as long as announced.
            ClientDisconnect: the client went away.
        """
        coding = self._headers.get(b"content-encoding", "identity")
        if coding != "identity":
            raise ForbiddenTypeError(
                f"Content-Encoding {coding[:80]!r} is not read; send the file as it is."
            )
        content_type = self._headers.get(b"content-type", "")
        kind, parameters = parse_header(content_type)
        if kind != "multipart/form-data":
            yield self._raw_file()
            return
        if not parameters.get("boundary"):
            raise BrokenMultipartError(
                "The Content-Type names no boundary; let the HTTP client write that header itself."
            )
        if len(_BOUNDARY.findall(_QUOTED.sub('""', content_type))) > 1:
            raise BrokenMultipartError("The Content-Type names more than one boundary.")
        parts = Parts(self.bytes(self._settings.request_limit).read, parameters["boundary"])
        while (part := await parts.next()) is not None:
            if (file := await self._file_or_field(part)) is not None:
                yield file

    def bytes(self, limit: int | None = None) -> "_Bytes":
        """The body as it comes; `limit` bytes at most, by default as many as a file may have."""
        return _Bytes(
            self._receive,
            announced=self.announced,
            limit=limit or self._settings.max_file_size,
            timeouts=self._timeouts,
            idle_timeout=self._settings.idle_timeout,
            min_rate=self._settings.min_rate,
        )

    @property
    def announced(self) -> int | None:
        """Bytes that the body is to have, if the client told."""
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
                f"Content-Transfer-Encoding {coding[:80]!r} is not read; send the part as it is."
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
                f"The part {field[:80]!r} carries a file; send files in parts named {FILE_PART!r}."
            )
        self.fields.append((field, await _field_value(field, part)))
        return None


class _Bytes:
    """The body as it comes from the client, its length and pace checked."""

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
        """Args:
            announced: bytes that the body is to have, if the client told.
            limit: bytes that it may have.
            patience: with which it is waited for.
            idle_timeout: seconds of silence after which it is given up.
            min_rate: bytes a second that it must bring on average, beyond that.

        Raises:
            TooLargeError: more is announced than accepted.
        """
        if announced is not None and announced > limit:
            raise TooLargeError(f"The request has {announced} bytes; at most {limit} are accepted.")
        self._receive = receive
        self._announced = announced
        self._limit = limit
        self._timeouts = timeouts
        self._idle_timeout = idle_timeout
        self._min_rate = min_rate
        self._waited = 0.0
        """Seconds that the client let us wait so far."""
        self._received = 0
        self._more = True

    async def read(self) -> Whole:
        """The next piece; b"" at the end.

        Raises:
            RefusedError: the body is too large, too slow, or not as long as announced.
            ClientDisconnect: the client went away.
        """
        while self._more:
            message = await self._next_message()
            self._more = message.get("more_body", False)
            chunk: Whole = message.get("body", b"")
            if chunk:
                self._received += len(chunk)
                if self._received > self._limit:
                    raise TooLargeError(
                        f"The request has more than the {self._limit} bytes accepted."
                    )
                return chunk
        if self._announced not in (None, self._received):
            raise LengthMismatchError(
                f"Content-Length says {self._announced} bytes, {self._received} came; "
                "send it again."
            )
        return b""

    async def _next_message(self) -> Message:
        clock = asyncio.get_running_loop().time
        begun = clock()
        left = self._idle_timeout + self._received / self._min_rate - self._waited
        try:
            with self._timeouts.of(min(self._idle_timeout, left)):
                message = await self._receive()
        except TimeoutError as error:
            if left < self._idle_timeout:
                raise StalledUploadError(
                    f"The request brings less than {self._min_rate:g} bytes a second; send it "
                    "again over a faster line, or a smaller file."
                ) from error
            raise StalledUploadError(
                f"Nothing came for {self._idle_timeout:g} seconds; send it again."
            ) from error
        self._waited += clock() - begun
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message


def declared_type(content_type: str | None) -> str | None:
    """What a header says that a file is; None where it says nothing."""
    declared = media_type(content_type)
    return None if declared in _UNDECLARED else declared


async def _field_value(field: str, part: Part) -> str:
    value = b""
    while chunk := await part.read():
        value += chunk
        if len(value) > MAX_FIELD:
            raise BadParameterError(
                f"The field {field[:80]!r} has more than {MAX_FIELD} bytes; only files may."
            )
    return value.decode(errors="replace")

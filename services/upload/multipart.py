"""A multipart/form-data body (RFC 7578) as a stream of parts, each with its content as it arrives.

python-multipart parses by push: it is fed bytes and calls back. Here its calls are queued and
pulled out again one by one, so that no more of the body is in memory than the piece at hand.
"""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from services.upload.names import decode_header
from shared.errors import BrokenMultipartError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 200
"""Parts of one request: a hundred files and as many fields. More is another use of this service."""

MAX_HEADERS = 8
MAX_HEADER_SIZE = 8192
"""Bytes of one header line: the longest file name, each character percent-encoded, fits twice."""


@dataclass(frozen=True)
class _Begin:
    """The headers of a part are complete."""

    headers: dict[str, str]


class _End:
    """A part is complete."""


_Event = _Begin | bytes | _End


@dataclass
class Part:
    """One part: its headers (lower-case names), and its content, which can be read once."""

    headers: dict[str, str]
    _events: AsyncIterator[_Event] = field(repr=False)
    _ended: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content in pieces as they came.

        Raises:
            BrokenMultipartError: the body ends within this part or does not follow the format.
        """
        while not self._ended:
            event = await anext(self._events)
            if isinstance(event, bytes):
                yield event
            else:
                self._ended = True

    async def skip(self) -> None:
        """Read past what is left of the content."""
        async for _ in self.chunks():
            pass


async def read_parts(body: AsyncIterator[bytes], boundary: str) -> AsyncIterator[Part]:
    """The parts of `body` in their order; what the caller leaves of one is skipped.

    Raises:
        BrokenMultipartError: the body does not follow the format, ends too early, or has more
            parts or larger headers than we read.
    """
    events = _read_events(body, boundary)
    seen = 0
    async for event in events:
        if not isinstance(event, _Begin):
            continue
        seen += 1
        if seen > MAX_PARTS:
            raise BrokenMultipartError(
                f"The request has more than {MAX_PARTS} parts; send fewer files at once."
            )
        part = Part(event.headers, events)
        yield part
        await part.skip()


async def _read_events(body: AsyncIterator[bytes], boundary: str) -> AsyncIterator[_Event]:
    queue = _EventQueue()
    try:
        parser = MultipartParser(
            boundary.encode("latin-1"),
            queue.callbacks(),
            max_header_count=MAX_HEADERS,
            max_header_size=MAX_HEADER_SIZE,
        )
        async for chunk in body:
            parser.write(chunk)
            while queue.events:
                yield queue.events.popleft()
    except (FormParserError, UnicodeEncodeError) as error:
        raise BrokenMultipartError(
            f"The multipart body cannot be read: {error}. Check how the request is built."
        ) from error
    if not queue.complete:
        raise BrokenMultipartError(
            "The body ends before its closing boundary; it was cut short. Send it again."
        )


class _EventQueue:
    """Turns the parser's calls into events."""

    def __init__(self) -> None:
        self.events: deque[_Event] = deque()
        self.complete = False
        self._headers: dict[str, str] = {}
        self._name = b""
        self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = decode_header(self._value)
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        self.events.append(_Begin(self._headers))
        self._headers = {}

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.events.append(data[start:end])

    def _on_part_end(self) -> None:
        self.events.append(_End())

    def _on_end(self) -> None:
        self.complete = True

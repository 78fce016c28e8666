"""Splitting a multipart/form-data body (RFC 7578, RFC 2046) into the parts between its boundaries.

Pure: bytes in, events out, however the bytes arrive. It searches for the boundary with the C code
of `bytes.find`, and large pieces of content are views of what arrived: of a large file no byte is
copied, but those in which a boundary may have been cut in two. Where the standard lets a sender
choose, one way is read and all else refused: two readers of one body must not see different
files.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from services.upload.body.names import decode_header
from shared.errors import BrokenMultipartError

MAX_PARTS = 200
"""Parts of one request: a hundred files and as many fields. More is another use of this service."""

MAX_HEADERS = 8
"""Headers of one part; forms have two."""

MAX_HEADER_SIZE = 8192
"""Bytes of a part's headers: the longest file name, each character percent-encoded, fits twice."""

MAX_PADDING = 64
"""Bytes between a boundary and the end of its line; the standard allows blanks there."""

COPIED = 1 << 16
"""Bytes of content up to which a piece is a copy, which is simpler to hold."""

_BOUNDARY = re.compile(rb"[ -~]{1,70}")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")


@dataclass(frozen=True)
class Begin:
    """The headers of a part are complete."""

    headers: dict[str, str]


class End:
    """A part is complete."""


Whole = bytes | bytearray
"""A piece of a body; nobody writes to it any more."""

ReadBody = Callable[[], Awaitable[Whole]]
"""Gives the next piece of a body; b"" at its end."""

Content = Whole | memoryview
"""A piece of the content of the part that began last."""

Event = Begin | Content | End
"""What a body consists of."""


class Splitter:
    """One body, fed in pieces."""

    def __init__(self, boundary: str) -> None:
        """Raises:
        BrokenMultipartError: no boundary may look like that.
        """
        encoded = boundary.encode("latin-1", errors="replace")
        if not _BOUNDARY.fullmatch(encoded) or encoded.endswith(b" "):
            raise _broken("its boundary must be 1 to 70 ASCII characters")
        self._delimiter = b"\r\n--" + encoded
        self._rest: Whole = b"\r\n"
        """What came last, after what could not be judged before. A body begins as if a line had
        ended."""
        self._at = 0
        """Where in it that begins which is still to be judged."""
        # A function and no bound method: in a cycle, what came last would wait for the collector.
        self._step: Callable[[Splitter], tuple[Event, ...] | None] = Splitter._opening
        """Reads one thing from what is there; None if it needs more."""
        self._parts = 0
        self.complete = False
        """Whether the closing boundary was read."""

    def feed(self, chunk: Whole) -> Iterator[Event]:
        """The events that end in this piece of the body.

        Raises:
            BrokenMultipartError: the body does not follow the format, or has more parts or larger
                headers than we read.
        """
        held = self._rest[self._at :]
        if held and self._step is Splitter._content and not self._begins(held, chunk):
            yield held
            held = b""
        self._rest, self._at = held + chunk if held else chunk, 0
        while (events := self._step(self)) is not None:
            yield from events

    def _begins(self, held: Whole, chunk: Whole) -> bool:
        """Whether a delimiter may begin in what was held back of the content."""
        length = len(self._delimiter)
        seam = held + chunk[:length]
        return len(chunk) < length or self._delimiter in seam[: len(held) + length - 1]

    def _opening(self) -> tuple[Event, ...] | None:
        if not self._rest.startswith(self._delimiter[: len(self._rest)]):
            raise _broken("it does not begin with its boundary")
        if len(self._rest) < len(self._delimiter):
            return None
        end = self._line_end(len(self._delimiter))
        if end == -1:
            raise _broken("it does not begin with its boundary")
        return None if end is None else self._next_part(end)

    def _content(self) -> tuple[Event, ...] | None:
        rest, at, delimiter = self._rest, self._at, self._delimiter
        found = rest.find(delimiter, at)
        while found != -1:
            end = self._line_end(found + len(delimiter))
            if end is None:
                return self._pass_on(found)
            if end != -1:
                before = (self._piece(at, found),) if found > at else ()
                return (*before, End(), *self._next_part(end))
            found = rest.find(delimiter, found + 1)
        # A delimiter that has only begun to arrive starts with the last carriage return.
        held = rest.rfind(b"\r", max(at, len(rest) - len(delimiter) + 1))
        return self._pass_on(held if held != -1 else len(rest))

    def _pass_on(self, end: int) -> tuple[Event, ...] | None:
        """Give out what is there until then; None if that is nothing."""
        at, self._at = self._at, end
        return (self._piece(at, end),) if end > at else None

    def _piece(self, start: int, end: int) -> Content:
        if end - start <= COPIED:
            return bytes(self._rest[start:end])
        return memoryview(self._rest)[start:end]

    def _line_end(self, start: int) -> int | None:
        """Where the line ends that a delimiter begins; -1 if it is none, None if that is not known.

        The closing delimiter's line ends after its two dashes.
        """
        rest = self._rest
        if rest.startswith(b"--", start):
            return start + 2
        end = rest.find(b"\r\n", start, start + MAX_PADDING)
        if end != -1:
            return end + 2 if not rest[start:end].strip(b" \t") else -1
        tail = rest[start : start + MAX_PADDING]
        may_be = len(tail) < MAX_PADDING and (tail == b"-" or not tail.strip(b" \t\r"))
        return None if may_be else -1

    def _next_part(self, end: int) -> tuple[Event, ...]:
        self.complete = self._rest[end - 2 : end] == b"--"
        self._at = end
        self._step = Splitter._closed if self.complete else Splitter._headers
        return ()

    def _headers(self) -> tuple[Event, ...] | None:
        rest, at = self._rest, self._at
        if rest.startswith(b"\r\n", at):
            return self._begin({}, content=at + 2)
        end = rest.find(b"\r\n\r\n", at, at + MAX_HEADER_SIZE + 4)
        if end != -1:
            return self._begin(_read_headers(bytes(rest[at:end])), content=end + 4)
        if len(rest) - at > MAX_HEADER_SIZE:
            raise _broken(f"the header size of a part is above {MAX_HEADER_SIZE} bytes")
        return None

    def _begin(self, headers: dict[str, str], *, content: int) -> tuple[Event, ...]:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BrokenMultipartError(
                f"The request has more than {MAX_PARTS} parts; send fewer files at once."
            )
        self._at = content
        self._step = Splitter._content
        return (Begin(headers),)

    def _closed(self) -> None:
        self._rest, self._at = b"", 0  # What follows the closing boundary is nobody's.


def _read_headers(block: bytes) -> dict[str, str]:
    lines = block.split(b"\r\n")
    if len(lines) > MAX_HEADERS:
        raise _broken(f"the header count of a part is above {MAX_HEADERS}")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _broken(f"{decode_header(line[:80])!r} is no header")
        name = header[1].decode().lower()
        if name in headers:
            raise _broken(f"a part has the header {name!r} twice")
        headers[name] = decode_header(header[2].rstrip(b" \t"))
    return headers


def _broken(what: str) -> BrokenMultipartError:
    return BrokenMultipartError(
        f"The multipart body cannot be read: {what}. Check how the request is built."
    )

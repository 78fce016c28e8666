"""Split a multipart/form-data body (RFC 7578, RFC 2046) at its boundaries.

The splitter does no I/O: bytes in, events out, however the bytes are chunked. It finds boundaries
with `bytes.find`, which runs in C. Large pieces of content are views of the input. Only bytes that
may belong to a boundary cut in two are copied. Where the standard allows variants, the splitter
accepts one and rejects the others, so that no two parsers see different files in one body.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from services.upload.body.names import decode_header
from shared.errors import BrokenMultipartError

MAX_PARTS = 200
"""Maximum parts of one request: a hundred files and as many fields."""

MAX_HEADERS = 8
"""Maximum headers of one part; forms have two."""

MAX_HEADER_SIZE = 8192
"""Bytes of a part's headers: enough for the longest file name twice, fully percent-encoded."""

MAX_PADDING = 64
"""Bytes between a boundary and the end of its line, where the standard allows whitespace."""

MAX_COPIED = 1 << 16
"""Bytes up to which a piece is copied instead of being a view that keeps its chunk alive."""

_BOUNDARY = re.compile(rb"[ -~]{1,70}")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")


@dataclass(frozen=True)
class Begin:
    """The headers of a part are complete."""

    headers: dict[str, str]


class End:
    """A part is complete."""


Whole = bytes | bytearray
"""A piece of a body, no longer modified."""

ReadBody = Callable[[], Awaitable[Whole]]
"""Returns the next piece of a body; b"" at its end."""

Content = Whole | memoryview
"""A piece of the content of the current part."""

Event = Begin | Content | End
"""An event in a body."""


class Splitter:
    """Splits one body that is fed in pieces."""

    def __init__(self, boundary: str) -> None:
        """Initialize the splitter.

        Raises:
            BrokenMultipartError: The boundary is malformed.
        """
        encoded = boundary.encode("latin-1", errors="replace")
        if not _BOUNDARY.fullmatch(encoded) or encoded.endswith(b" "):
            raise _broken(
                "its boundary must be 1 to 70 printable ASCII characters and not end with a space"
            )
        self._delimiter = b"\r\n--" + encoded
        self._rest: Whole = b"\r\n"
        """The held-back rest of the previous chunk, then the current one. The initial line break
        belongs to the first delimiter."""
        self._at = 0
        """Offset in `_rest` of the first byte that is not processed."""
        # A function, not a bound method: a reference cycle would keep the last chunk in memory
        # until the garbage collector runs.
        self._step: Callable[[Splitter], tuple[Event, ...] | None] = Splitter._opening
        """The state: consumes input and returns events, or None if it needs more input."""
        self._parts = 0
        self.complete = False
        """True once the closing boundary was read."""

    def feed(self, chunk: Whole) -> Iterator[Event]:
        """Yield the events that this piece of the body completes.

        Raises:
            BrokenMultipartError: The body is malformed, or exceeds the limits on parts and
                headers.
        """
        held = self._rest[self._at :]
        if held and self._step is Splitter._content and not self._begins(held, chunk):
            yield held
            held = b""
        self._rest, self._at = held + chunk if held else chunk, 0
        while (events := self._step(self)) is not None:
            yield from events

    def _begins(self, held: Whole, chunk: Whole) -> bool:
        """Return True if a delimiter may begin in the held-back content."""
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
                return self._emit(found)
            if end != -1:
                before = (self._piece(at, found),) if found > at else ()
                return (*before, End(), *self._next_part(end))
            found = rest.find(delimiter, found + 1)
        # A delimiter that has only begun to arrive starts with the last carriage return.
        held = rest.rfind(b"\r", max(at, len(rest) - len(delimiter) + 1))
        return self._emit(held if held != -1 else len(rest))

    def _emit(self, end: int) -> tuple[Event, ...] | None:
        """Return the content up to `end` as an event; None if it is empty."""
        at, self._at = self._at, end
        return (self._piece(at, end),) if end > at else None

    def _piece(self, start: int, end: int) -> Content:
        if end - start <= MAX_COPIED:
            return bytes(self._rest[start:end])
        return memoryview(self._rest)[start:end]

    def _line_end(self, start: int) -> int | None:
        """Return where the delimiter's line ends.

        The line of the closing delimiter ends after its two dashes.

        Returns:
            The offset, -1 if this is not a delimiter, or None if more input is needed.
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
            raise _broken(f"the header size of a part exceeds {MAX_HEADER_SIZE} bytes")
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
        self._rest, self._at = b"", 0  # The epilogue is ignored.


def _read_headers(block: bytes) -> dict[str, str]:
    lines = block.split(b"\r\n")
    if len(lines) > MAX_HEADERS:
        raise _broken(f"the header count of a part exceeds {MAX_HEADERS}")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _broken(f"{decode_header(line[:80])!r} is not a header")
        name = header[1].decode().lower()
        if name in headers:
            raise _broken(f"a part has the header {name!r} twice")
        headers[name] = decode_header(header[2].rstrip(b" \t"))
    return headers


def _broken(what: str) -> BrokenMultipartError:
    return BrokenMultipartError(
        f"The multipart body cannot be read: {what}. Check how the request is built."
    )

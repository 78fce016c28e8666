"""Decoder for chunked bodies (RFC 9112, 7.1), with a limit on the framing overhead.

No I/O. Lines must end with CR LF, and sizes must be hexadecimal digits. Extensions and trailers are
checked, counted and discarded.
"""

import re

from shared.http.limits import FRAMING_SHARE, MAX_CHUNK_LINE, MAX_FRAMING, MAX_TRAILERS
from shared.http.refusals import MalformedRequestError

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")

_SIZE_LINE, _DATA, _DATA_END, _TRAILERS, _COMPLETE = range(5)


class ChunkedBody:
    """Decodes one body that arrives in pieces."""

    def __init__(self) -> None:
        self._step = _SIZE_LINE
        self._left = 0
        """Bytes of the current chunk that have not arrived."""
        self._line = b""
        """The start of a line whose end has not arrived."""
        self._content = 0
        self._framing = 0
        self._trailers = 0

    @property
    def is_complete(self) -> bool:
        """Return True once the last trailer was read."""
        return self._step == _COMPLETE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode a piece; return its content, and the bytes that follow the body.

        Raises:
            MalformedRequestError: the body is not chunked, or its framing exceeds the limits.
        """
        content, at = [], 0
        while at < len(data) and self._step != _COMPLETE:
            if self._step == _DATA:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._step = _DATA_END
                continue
            end = data.find(b"\n", at) + 1
            piece = data[at : end or len(data)]
            at += len(piece)
            self._line += piece
            limit = MAX_TRAILERS if self._step == _TRAILERS else MAX_CHUNK_LINE
            if len(self._line) > limit:
                raise _malformed(f"a chunk line or trailer has more than {limit} bytes")
            if end:
                line, self._line = self._line, b""
                self._read_line(line)
        if content:
            self._content += sum(map(len, content))
        if self._framing > MAX_FRAMING + FRAMING_SHARE * self._content:
            raise _malformed("its chunk framing is far larger than its content")
        return content[0] if len(content) == 1 else b"".join(content), data[at:]

    def _read_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise _malformed("a line does not end with CR LF")
        text = line[:-2]
        self._framing += len(line)
        if self._step == _SIZE_LINE:
            size = _SIZE.fullmatch(text)
            if size is None:
                raise _malformed(f"{text[:80].decode('latin-1')!r} is not a chunk size")
            self._left = int(size[1], 16)
            self._step = _DATA if self._left else _TRAILERS
        elif self._step == _DATA_END:
            if text:
                raise _malformed("a chunk is longer than its declared size")
            self._step = _SIZE_LINE
        elif not text:
            self._step = _COMPLETE
        else:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS:
                raise _malformed(f"its trailers have more than {MAX_TRAILERS} bytes")
            if not _TRAILER.fullmatch(text):
                raise _malformed(f"{text[:80].decode('latin-1')!r} is not a trailer")


def _malformed(what: str) -> MalformedRequestError:
    return MalformedRequestError(f"The chunked body is malformed: {what}.")

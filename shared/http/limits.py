"""The bounds of a connection. docs/limits.md lists them; a test compares the two."""

MAX_HEAD = 65_536
"""Bytes of a head, the request line and the headers: the longest `Upload-Metadata`, token and
cookie fit three times."""

MAX_HEADERS = 128
"""Headers of a request. Browsers send about 20, proxies add a few."""

HEAD_SECONDS = 20.0
"""Seconds for a head from its first byte, or from the start of the connection. A client sends its
head at once."""

MAX_BODY = 1 << 20
"""Bytes of a body that is not a file: a thousand ids with a reason take 70 kB."""

BODY_SECONDS = 20.0
"""Seconds for such a body, from the end of its head."""

MAX_CHUNK_LINE = 1024
"""Bytes of the line with a chunk's size and extensions. Signed chunks have 90."""

MAX_FRAMING = 65_536
"""Bytes of chunk lines beyond `FRAMING_SHARE` times the body."""

FRAMING_SHARE = 8
"""Bytes of chunk lines for each byte of the body: a client that sends single bytes needs five."""

MAX_TRAILERS = 8192
"""Bytes of all trailers of a body. Trailers are read and discarded."""

MAX_BLANK = 64
"""Bytes of empty lines before a request line (RFC 9112, 2.2)."""

MAX_HELD = 1 << 20
"""Bytes that a client may send ahead of an answer. Four reads of the socket fit."""

LINGER_BYTES = 64 << 20
"""Bytes that are read and discarded after an answer that came before the end of its body. A simple
client sends this much before it looks for an answer."""

LINGER_SECONDS = 10.0
"""Seconds for that."""

STALL_SECONDS = 30.0
"""Seconds in which a client must read something of what it was sent, or the connection ends."""

MAX_MESSAGE = 131_072
"""Bytes of a WebSocket message: a subscription to 1,000 files has 40 kB."""

MAX_FRAGMENTS = 64
"""Frames of one WebSocket message. Clients send one; proxies may split it."""

MESSAGE_SECONDS = 20.0
"""Seconds for a WebSocket message from its first byte."""

FRAMES_PER_SECOND = 20.0
"""WebSocket frames that a client may send on average: a heartbeat is one in 20 s."""

FRAMES_AT_ONCE = 400
"""WebSocket frames that a client may send before the average counts."""

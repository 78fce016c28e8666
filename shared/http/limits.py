"""The limits of a connection. docs/limits.md lists them; a test compares the two."""

MAX_HEAD = 65_536
"""Bytes of a head (request line and headers). Three times the longest `Upload-Metadata`, token and
cookie fit."""

MAX_HEADERS = 128
"""Headers of a request. Browsers send about 20; proxies add a few."""

HEAD_SECONDS = 20.0
"""Seconds for a head, from its first byte or the start of the connection. Clients send a head in
one piece."""

MAX_BODY = 1 << 20
"""Bytes of a body that is not a file. A thousand ids with a reason take 70 kB."""

BODY_SECONDS = 20.0
"""Seconds for a body that is not a file, from the end of its head."""

MAX_CHUNK_LINE = 1024
"""Bytes of the line with a chunk's size and extensions. Signed chunks need 90."""

MAX_FRAMING = 65_536
"""Bytes of chunk lines beyond `FRAMING_SHARE` times the body."""

FRAMING_SHARE = 8
"""Bytes of chunk lines per byte of the body. A client that sends single bytes needs five."""

MAX_TRAILERS = 8192
"""Bytes of all trailers of a body. Trailers are read and discarded."""

MAX_BLANK = 64
"""Bytes of empty lines before a request line (RFC 9112, 2.2)."""

MAX_HELD = 1 << 20
"""Bytes that a client may send before it has received the previous response. Four socket reads
fit."""

LINGER_BYTES = 64 << 20
"""Bytes of a body that are read and discarded after an early response. Simple clients send this
much before they read a response."""

LINGER_SECONDS = 10.0
"""Seconds for which the rest of a body is discarded after an early response."""

STALL_SECONDS = 30.0
"""Seconds within which a client must read some of the data sent to it, or the connection is
closed."""

MAX_MESSAGE = 131_072
"""Bytes of a WebSocket message. A subscription to 1,000 files takes 40 kB."""

MAX_FRAGMENTS = 64
"""Frames of one WebSocket message. Clients send one; proxies may split it."""

MESSAGE_SECONDS = 20.0
"""Seconds for a WebSocket message from its first byte."""

FRAMES_PER_SECOND = 20.0
"""WebSocket frames per second that a client may send on average. Heartbeats are 20 s apart."""

FRAMES_AT_ONCE = 400
"""WebSocket frames that a client may send in a burst."""

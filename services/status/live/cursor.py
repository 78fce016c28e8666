"""Cursors: the position in the log up to which a subscriber has received everything.

The log is the same for every pod, so any pod understands the cursor of another one. A cursor counts
the topics whose events lead to lifecycle states. Progress is not sent a second time.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shared.errors import BadParameterError
from shared.events.topics import ACCESS, LIFECYCLE, UPLOADED

TOPICS = (UPLOADED, LIFECYCLE, ACCESS)
"""Topics that cursors count, in encoding order. Where files are never shared, a cursor contains
only the first two."""

MAX_LENGTH = 4096
"""Maximum length of a cursor in characters. A cursor of 36 partitions has about 150."""


VERSION = b"\x01"


class Partition(NamedTuple):
    """A partition of one of `TOPICS`."""

    topic: int
    number: int


class Place(NamedTuple):
    """Position of an event in the log."""

    partition: Partition
    offset: int


StreamCursor = Mapping[Partition, int]
"""Offset per partition; everything before it was delivered. A missing partition counts as 0."""


def encode(cursor: StreamCursor) -> str:
    """Return an unsealed cursor as text: base64url without padding."""
    numbers = b"".join(
        bytes((partition.topic,)) + _varint(partition.number) + _varint(offset)
        for partition, offset in sorted(cursor.items())
        if offset
    )
    return urlsafe_b64encode(VERSION + numbers).rstrip(b"=").decode()


def decode(text: str) -> StreamCursor:
    """Decode a cursor that `encode` made.

    Raises:
        BadParameterError: the text is not a cursor.
    """
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError("too long")
        numbers = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if not numbers.startswith(VERSION):
            raise ValueError("another version")
        return dict(_triples(iter(numbers[len(VERSION) :])))
    except ValueError as error:
        raise BadParameterError(
            f"cursor={text[:40]!r} is not valid. Send a cursor that the stream returned."
        ) from error


def _triples(numbers: Iterator[int]) -> Iterator[tuple[Partition, int]]:
    for topic in numbers:
        if topic >= len(TOPICS):
            raise ValueError("unknown topic")
        yield Partition(topic, _read_varint(numbers)), _read_varint(numbers)


def _varint(number: int) -> bytes:
    """Encode a number as LEB128: seven bits per byte, the lowest first."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _read_varint(numbers: Iterator[int]) -> int:
    value = shift = 0
    for byte in numbers:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise ValueError("too large")
    else:
        raise ValueError("cut off")
    return value

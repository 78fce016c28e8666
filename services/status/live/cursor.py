"""Cursors: how far in the log a subscriber has been told everything.

The log is the same for every pod, so a cursor that one pod gave is understood by all. It counts the
topics whose events make lifecycle states; progress is not told a second time.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from shared.errors import BadParameterError
from shared.events.topics import ACCESS, LIFECYCLE, UPLOADED

TOPICS = (UPLOADED, LIFECYCLE, ACCESS)
"""What cursors count, in the order in which it names them; those of an installation where nothing
is shared name the first two."""

MAX_LENGTH = 4096
"""Characters of a cursor: those of 36 partitions are some 150."""


VERSION = b"\x01"


class Partition(NamedTuple):
    """A partition of one of `TOPICS`."""

    topic: int
    number: int


class Place(NamedTuple):
    """Where an event stands in the log."""

    partition: Partition
    offset: int


StreamCursor = Mapping[Partition, int]
"""Of each partition, the offset before which everything was told; 0 for one that is not named."""


def encode(cursor: StreamCursor) -> str:
    """The cursor as clients get it: base64url without padding, which they do not look into."""
    numbers = b"".join(
        bytes((partition.topic,)) + _varint(partition.number) + _varint(offset)
        for partition, offset in sorted(cursor.items())
        if offset
    )
    return urlsafe_b64encode(VERSION + numbers).rstrip(b"=").decode()


def decode(text: str) -> StreamCursor:
    """Read a cursor that a client brings back.

    Raises:
        BadParameterError: no pod has given this.
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
            f"cursor={text[:40]!r} is none: give back what a message of the stream carried."
        ) from error


def _triples(numbers: Iterator[int]) -> Iterator[tuple[Partition, int]]:
    for topic in numbers:
        if topic >= len(TOPICS):
            raise ValueError("unknown topic")
        yield Partition(topic, _read_varint(numbers)), _read_varint(numbers)


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first."""
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

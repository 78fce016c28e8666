"""The other readers of a file: a pure fold of its sharing events.

For each reader, the event with the greatest offset counts, as all sharing events of a file are in
one partition. A reader whose access was revoked is kept without a name. Otherwise an earlier event
that is delivered again would restore the access.
"""

from pydantic import BaseModel, ConfigDict

from shared.events.events import AccessEvent, EventType, FileShared
from shared.events.facts import reader_key

SHARING = frozenset({EventType.SHARED, EventType.UNSHARED})
"""The types of an `AccessEvent`. A set lookup is faster than matching classes, and happens for
every event."""


class Share(BaseModel):
    """The latest sharing event about one reader of a file."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Hash of the reader; part of the record keys of sharing events."""
    reader: str | None
    """The reader; None if they may no longer read the file."""
    offset: int
    """Offset of the event in its partition."""


Shares = tuple[Share, ...]
"""The shares of one file, sorted by key."""


def with_event(shares: Shares, event: AccessEvent, offset: int, *, is_deleted: bool) -> Shares:
    """Return the shares after an event; *the same object* if it changes nothing.

    Args:
        shares: the shares before the event.
        event: the sharing event.
        offset: offset of the event in its partition.
        is_deleted: True if the file is deleted. Then nobody may read it, and no name is kept.
    """
    key = event.data.key
    others = tuple(share for share in shares if share.key != key)
    if any(share.key == key and share.offset >= offset for share in shares):
        return shares
    reader = event.data.reader if isinstance(event, FileShared) and not is_deleted else None
    new = Share(key=key, reader=reader, offset=offset)
    return tuple(sorted((*others, new), key=lambda share: share.key))


def without_names(shares: Shares) -> Shares:
    """Return the shares of a deleted file."""
    return tuple(share.model_copy(update={"reader": None}) for share in shares)


def before(shares: Shares, offset: int) -> Shares:
    """Return the shares from before an offset; *the same object* if that is all of them."""
    earlier = tuple(share for share in shares if share.offset < offset)
    return shares if len(earlier) == len(shares) else earlier


def end(shares: Shares) -> int:
    """Return the offset after the last event that the shares contain."""
    return max((share.offset + 1 for share in shares), default=0)


def share_of(shares: Shares, reader: str) -> Share | None:
    """Return the share of a reader, or None if there was no event about them."""
    key = reader_key(reader)
    return next((share for share in shares if share.key == key), None)


def readers(shares: Shares) -> list[str]:
    """Return the readers of the file beside its owner, sorted by name."""
    return sorted(share.reader for share in shares if share.reader is not None)

"""Who may read a file beside its owner: a pure fold of what was shared and taken back.

Of each reader the event with the greatest offset counts: all of a file's stand in one partition. A
reader from whom the file was taken back is kept without a name, so that an earlier event which is
delivered once more does not give it to them again.
"""

from pydantic import BaseModel, ConfigDict

from shared.events.events import AccessEvent, EventType, FileShared
from shared.events.facts import reader_key

SHARING = frozenset({EventType.SHARED, EventType.UNSHARED})
"""What an `AccessEvent` is; of every event that is asked, and a set knows sooner than classes."""


class Share(BaseModel):
    """The last word about one reader of a file."""

    model_config = ConfigDict(frozen=True)

    key: str
    """Stands for the reader, and is part of the keys of the records that tell of them."""
    reader: str | None
    """Who may read the file; None if they no longer may."""
    offset: int
    """Where the event stands in its partition."""


Shares = tuple[Share, ...]
"""Those of one file, in the order of the keys."""


def with_event(shares: Shares, event: AccessEvent, offset: int, *, is_deleted: bool) -> Shares:
    """The shares after an event; *the same object* if it changes nothing.

    Args:
        is_deleted: whether the file is: then nobody reads it, and nobody is named any more.
    """
    key = event.data.key
    others = tuple(share for share in shares if share.key != key)
    if any(share.key == key and share.offset >= offset for share in shares):
        return shares
    reader = event.data.reader if isinstance(event, FileShared) and not is_deleted else None
    new = Share(key=key, reader=reader, offset=offset)
    return tuple(sorted((*others, new), key=lambda share: share.key))


def without_names(shares: Shares) -> Shares:
    """The shares of a file that is deleted."""
    return tuple(share.model_copy(update={"reader": None}) for share in shares)


def before(shares: Shares, offset: int) -> Shares:
    """Those whose last word was said before an offset; *the same object* if that is all of them."""
    earlier = tuple(share for share in shares if share.offset < offset)
    return shares if len(earlier) == len(shares) else earlier


def end(shares: Shares) -> int:
    """The offset after the last event that the shares know of."""
    return max((share.offset + 1 for share in shares), default=0)


def share_of(shares: Shares, reader: str) -> Share | None:
    """The last word about a reader, if anything was ever said."""
    key = reader_key(reader)
    return next((share for share in shares if share.key == key), None)


def readers(shares: Shares) -> list[str]:
    """Who may read the file, beside its owner, in the order of the names."""
    return sorted(share.reader for share in shares if share.reader is not None)

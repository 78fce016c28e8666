"""What a blob store says of its blobs, and reads of them, without their content."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.blobs.packs import Packs

if TYPE_CHECKING:
    from obstore import ObjectMeta


class BlobInfo(NamedTuple):
    """What the store says of a single blob."""

    size: int
    """Bytes."""
    at: datetime
    """When it was stored, in UTC."""
    tag: str
    """Another one whenever something else is stored under the key."""


class Stored(NamedTuple):
    """What the store knows of a blob."""

    size: int
    """Bytes."""
    at: datetime


def info_of_slice(packs: Packs, key: str) -> BlobInfo:
    """Return what is known of a blob in a pack; raises `FileNotFoundError` if there is none."""
    found = packs.find(key)
    return BlobInfo(found.size, found.at, key)  # Nothing else can get this key.


def info_of_file(path: Path) -> BlobInfo:
    """Return what is known of a blob that is a file; raises `OSError` if there is none."""
    status = path.stat()
    stored_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return BlobInfo(status.st_size, stored_at, f"{status.st_ino}-{status.st_mtime_ns}")


def info_of_object(meta: "ObjectMeta") -> BlobInfo:
    """Return what is known of a blob in an object store."""
    tag = meta["e_tag"] or meta["last_modified"].isoformat()
    return BlobInfo(meta["size"], meta["last_modified"], tag)

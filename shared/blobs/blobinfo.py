"""Metadata of blobs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shared.blobs.packs import Packs

if TYPE_CHECKING:
    from obstore import ObjectMeta


class BlobInfo(NamedTuple):
    """Metadata of a single blob."""

    size: int
    """Bytes."""
    at: datetime
    """Time of storage, in UTC."""
    tag: str
    """Entity tag, which changes whenever the content of the key changes."""


class Stored(NamedTuple):
    """Metadata of a blob in a listing."""

    size: int
    """Bytes."""
    at: datetime
    """Time of storage, in UTC."""


def info_of_slice(packs: Packs, key: str) -> BlobInfo:
    """Return the metadata of a blob in a pack.

    Raises:
        FileNotFoundError: the blob does not exist.
    """
    found = packs.find(key)
    return BlobInfo(found.size, found.at, key)  # Keys of slices are never reused.


def info_of_file(path: Path) -> BlobInfo:
    """Return the metadata of a blob that is a file.

    Raises:
        OSError: the file does not exist or cannot be examined.
    """
    status = path.stat()
    stored_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return BlobInfo(status.st_size, stored_at, f"{status.st_ino}-{status.st_mtime_ns}")


def info_of_object(meta: "ObjectMeta") -> BlobInfo:
    """Return the metadata of a blob in an object store."""
    tag = meta["e_tag"] or meta["last_modified"].isoformat()
    return BlobInfo(meta["size"], meta["last_modified"], tag)

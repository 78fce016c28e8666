"""What a blob store says when it fails, as errors of ours."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import NotFoundError as StoreNotFoundError

from shared.blobs.volume import Volume
from shared.errors import BlobStoreUnavailableError, StorageFullError

log = logging.getLogger(__name__)

NOT_MOUNTED = (
    "The directory of the blob store is not the one with which this process began: is its volume "
    "mounted? If the directory was replaced on purpose, restart the service."
)
"""What to say of a directory that is lost; see `volume.py`."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system says where there is no room."""


class BlobMissingError(LookupError):
    """The blob store has nothing under this key."""


@contextmanager
def missing_or_unavailable(key: str, volume: Volume | None = None) -> Iterator[None]:
    """Raise what the store says of a blob that is to be read as one of our errors.

    Args:
        volume: the store's directory: if it is lost, nothing is known of the blob.
    """
    try:
        try:
            yield
        except (FileNotFoundError, StoreNotFoundError) as error:
            if volume is not None:
                volume.check()
            raise BlobMissingError(key) from error
    except (StoreError, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> BlobStoreUnavailableError:
    """The error to raise; what the store said is for the log, as it names places and addresses."""
    if getattr(error, "errno", None) == errno.ENODEV:
        log.error("%s (%s)", NOT_MOUNTED, error)
        return BlobStoreUnavailableError(NOT_MOUNTED)
    log.warning("the blob store failed: %s", error)
    # obstore tells the system's errors in words only.
    full = getattr(error, "errno", None) in _FULL or any(
        f"(os error {n})" in str(error) for n in _FULL
    )
    return StorageFullError() if full else BlobStoreUnavailableError()

"""Translation of the blob store's errors."""

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
    "The directory of the blob store was replaced since this process started: check that its "
    "volume is mounted. If it was replaced on purpose, restart the service."
)
"""The message for a lost directory; see `volume.py`."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk or an exhausted quota."""


class BlobMissingError(LookupError):
    """The blob store has no blob with this key."""


@contextmanager
def missing_or_unavailable(key: str, volume: Volume | None = None) -> Iterator[None]:
    """Translate the errors of a block that reads a blob.

    Args:
        volume: the store's directory. If it is lost, the blob may still exist.

    Raises:
        BlobMissingError: the blob does not exist.
        BlobStoreUnavailableError: the store is unavailable, or its directory is lost.
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
    """Log the store's error, which may contain addresses, and return the error to raise."""
    if getattr(error, "errno", None) == errno.ENODEV:
        log.error("%s (%s)", NOT_MOUNTED, error)
        return BlobStoreUnavailableError(NOT_MOUNTED)
    log.warning("the blob store failed: %s", error)
    # obstore includes the system's error number in the message only.
    full = getattr(error, "errno", None) in _FULL or any(
        f"(os error {n})" in str(error) for n in _FULL
    )
    return StorageFullError() if full else BlobStoreUnavailableError()
